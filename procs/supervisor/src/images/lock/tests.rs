use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn image() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    (dir, path)
}

fn open(path: &Path) -> OwnedFd {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.unwrap().into()
}

fn lock(path: &Path, purpose: Use) -> Result<(OwnedFd, ImageLock), LockError> {
    let image = open(path);
    let lock = ImageLock::take(image.as_fd(), open(path), purpose)?;
    Ok((image, lock))
}

/// `qemu-io`, writing or (`-r`) reading; `None` if it is not installed.
fn qemu_io(path: &Path, writes: bool) -> Option<bool> {
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]);
    match writes {
        true => command.args(["-c", "write 0 512"]),
        false => command.args(["-r", "-c", "read 0 512"]),
    };
    let output = command.arg(path).output().ok()?;
    Some(output.status.success() && output.stderr.is_empty())
}

#[test]
fn one_writer_excludes_writers_and_readers_until_every_description_is_closed() {
    let (_dir, path) = image();
    let (image, held) = lock(&path, Use::Write).unwrap();
    for purpose in [Use::Write, Use::Read] {
        assert!(matches!(lock(&path, purpose), Err(LockError::Taken)));
    }
    drop(held);
    assert!(
        matches!(lock(&path, Use::Write), Err(LockError::Taken)),
        "a block-layer that still lives keeps the image locked"
    );
    drop(image);
    lock(&path, Use::Write).unwrap();
}

#[test]
fn readers_share_and_exclude_a_writer() {
    let (_dir, path) = image();
    let _one = lock(&path, Use::Read).unwrap();
    let _two = lock(&path, Use::Read).unwrap();
    assert!(matches!(lock(&path, Use::Write), Err(LockError::Taken)));
}

#[test]
fn a_lock_stolen_through_the_passed_descriptor_is_still_held() {
    let (_dir, path) = image();
    let (image, _held) = lock(&path, Use::Write).unwrap();
    unlock(&image, 0, 1_000).unwrap();
    assert!(matches!(lock(&path, Use::Read), Err(LockError::Taken)));
}

#[test]
fn qemu_is_excluded_as_we_exclude_each_other() {
    let (_dir, path) = image();
    let Some(free) = qemu_io(&path, true) else {
        eprintln!("qemu-io is not installed: not tested");
        return;
    };
    assert!(free);
    for purpose in [Use::Write, Use::Read] {
        let _held = lock(&path, purpose).unwrap();
        assert_eq!(qemu_io(&path, true), Some(false));
        // It shares everything when it reads, beside a writer of QEMU's too.
        assert_eq!(qemu_io(&path, false), Some(true));
    }
}

/// A `qemu-storage-daemon` that holds the image, until dropped.
struct Daemon(std::process::Child);

impl Daemon {
    fn hold(path: &Path, read_only: bool) -> Option<Self> {
        let marker = path.with_extension("nbd");
        let node = format!(
            "driver=file,node-name=n,filename={},read-only={}",
            path.display(),
            if read_only { "on" } else { "off" }
        );
        let writable = if read_only { "off" } else { "on" };
        let child = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &node])
            .args(["--nbd-server", &format!("addr.type=unix,addr.path={}", marker.display())])
            .args(["--export", &format!("type=nbd,id=e,node-name=n,writable={writable}")])
            .arg("--pidfile")
            .arg(path.with_extension("pid"))
            .spawn()
            .ok()?;
        while !path.with_extension("pid").exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Some(Self(child))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn qemus_writer_excludes_us_and_its_reader_shares_with_ours() {
    let (_dir, path) = image();
    let Some(writer) = Daemon::hold(&path, false) else {
        eprintln!("qemu-storage-daemon is not installed: not tested");
        return;
    };
    assert!(matches!(lock(&path, Use::Write), Err(LockError::Taken)));
    assert!(matches!(lock(&path, Use::Read), Err(LockError::Taken)));
    drop(writer);
    std::fs::remove_file(path.with_extension("pid")).unwrap();
    let _reader = Daemon::hold(&path, true).unwrap();
    lock(&path, Use::Read).unwrap();
}
