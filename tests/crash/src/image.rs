//! The images that scenes are played on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;
use tempfile::NamedTempFile;

use crate::ledger::{Fault, Ledger};
use crate::stamp::BLOCK;

/// An image file, and perhaps a loop device in front of it; gone on drop.
#[derive(Debug)]
pub struct Image {
    file: NamedTempFile,
    device: Option<Device>,
    backing: Option<NamedTempFile>,
}

#[derive(Debug)]
struct Device(PathBuf);

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

impl Image {
    /// Of `blocks` blocks in a folder.
    pub fn new(folder: &Path, blocks: u64) -> Self {
        let file = NamedTempFile::new_in(folder).expect("an image");
        file.as_file().set_len(blocks * BLOCK as u64).expect("its size");
        Self { file, device: None, backing: None }
    }

    /// In memory.
    pub fn in_memory(blocks: u64) -> Self {
        Self::new(Path::new("/dev/shm"), blocks)
    }

    /// A qcow2 image on a raw one, by QEMU's tools; `None` where there are none.
    pub fn qcow2(folder: &Path, blocks: u64) -> Option<Self> {
        let backing = Self::new(folder, blocks).file;
        let file = NamedTempFile::new_in(folder).expect("an image");
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-o", "cluster_size=4096", "-b"])
            .args([backing.path(), file.path()])
            .status();
        let made = made.is_ok_and(|status| status.success());
        made.then_some(Self { file, device: None, backing: Some(backing) })
    }

    /// On a disk: beside the sources, where /tmp may be memory.
    pub fn on_disk(blocks: u64) -> Self {
        Self::new(Path::new(env!("CARGO_MANIFEST_DIR")), blocks)
    }

    /// A loop device over a file on a disk; `None` for who may not make one.
    pub fn on_loop_device(blocks: u64) -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let mut image = Self::on_disk(blocks);
        let losetup =
            Command::new("losetup").args(["--show", "-f"]).arg(image.file.path()).output();
        let losetup = losetup.ok().filter(|output| output.status.success())?;
        let name = String::from_utf8(losetup.stdout).ok()?;
        image.device = Some(Device(PathBuf::from(name.trim())));
        Some(image)
    }

    /// What `--disk path=` gets.
    pub fn path(&self) -> &Path {
        match &self.device {
            Some(Device(path)) => path,
            None => self.file.path(),
        }
    }

    /// The keys that it needs of `--disk`.
    pub fn keys(&self) -> String {
        self.backing.as_ref().map_or(String::new(), |backing| {
            format!(",format=qcow2,backing={},backing-format=raw", backing.path().display())
        })
    }

    /// The disk's bytes; of a qcow2 image as QEMU reads them, once it has found no error and no leak.
    fn bytes(&self) -> File {
        match self.backing {
            None => File::open(self.path()).expect("the image"),
            Some(_) => qcow2_bytes(self.path()),
        }
    }

    /// Reads every block of the book on the host, past all that was tested.
    pub fn judge(&self, ledger: &Ledger) -> Result<(), Fault> {
        judge_bytes(&self.bytes(), ledger)
    }
}

/// The disk that a qcow2 image and those below it are, as QEMU reads them, once it has found no error and no
/// leak.
pub fn qcow2_bytes(path: &Path) -> File {
    let raw = NamedTempFile::new().expect("a raw image");
    let run = |arguments: &[&str], files: &[&Path]| {
        let status = Command::new("qemu-img").args(arguments).args(files).status();
        assert!(status.expect("qemu-img").success(), "qemu-img {arguments:?} complains");
    };
    run(&["check", "-q", "-f", "qcow2"], &[path]);
    run(&["convert", "-f", "qcow2", "-O", "raw"], &[path, raw.path()]);
    raw.reopen().expect("the raw image")
}

/// Reads every block of the book.
pub fn judge_bytes(file: &File, ledger: &Ledger) -> Result<(), Fault> {
    let mut block = [0; BLOCK];
    for place in 0..ledger.len() {
        let offset = ledger.number(place) * BLOCK as u64;
        file.read_exact_at(&mut block, offset).expect("a block");
        ledger.judge(place, &block)?;
    }
    Ok(())
}
