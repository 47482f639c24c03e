//! A host without space: requests wait, and go on by themselves when there is space. Nobody sees an error.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_crash::image::Image;
use bulkhead_crash::killer::wait_for_progress;
use bulkhead_crash::scene::{IMAGE_BLOCKS, Scene};
use bulkhead_harness::programs;
use tempfile::TempDir;

/// Bytes that are left when the load begins: less than it will write.
const LEFT: u64 = 256 << 10;

/// A small file system in memory; gone on drop.
struct Small(TempDir);

impl Small {
    /// `None` for who may not mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4M", "small"]).arg(folder.path());
        let done = mount.stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Fills the file system up, but for a rest.
fn fill(folder: &Path) -> fs::File {
    let mut filler = fs::File::create(folder.join("filler")).expect("a filler");
    while filler.write_all(&[7; 4096]).is_ok() {}
    let full = filler.metadata().expect("its size").len();
    filler.set_len(full - LEFT).expect("some room");
    filler
}

#[test]
fn requests_wait_for_space_and_go_on_when_there_is_some() {
    let Some(small) = Small::mount() else {
        return eprintln!("skipped: only root may mount");
    };
    let Some(image) = Image::qcow2(small.path(), IMAGE_BLOCKS) else {
        return eprintln!("skipped: there is no qemu-img");
    };
    let filler = fill(small.path());
    let scene = Scene::begin(image, "");
    let mut events = programs::bulkhead();
    events.args(["events", scene.storage().name()]).stdout(Stdio::piped());
    let mut events = events.spawn().expect("bulkhead starts");
    let mut lines = BufReader::new(events.stdout.take().expect("a pipe")).lines();
    let waits = lines.any(|line| line.is_ok_and(|line| line.contains("\"paused\":true")));
    assert!(waits, "nobody was told that the disk waits");
    drop(filler);
    fs::remove_file(small.path().join("filler")).expect("the filler");
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("block-error-over"))));
    wait_for_progress(scene.shared(), 200);
    scene.end(Duration::ZERO);
    events.wait().expect("its end");
}
