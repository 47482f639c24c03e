//! One guest: its disks in a folder of their own, its name, and how it is started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use bulkhead_harness::storage::{Process, processes};
use bulkhead_harness::{engine, programs};
use tempfile::TempDir;

use crate::{Console, disk};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Mebibytes of the disk that carries a test's scripts in and their results out.
const SECOND_DISK: u32 = 64;

/// A guest that may be started.
#[derive(Debug)]
pub struct Guest {
    folder: TempDir,
    name: String,
    cpus: u32,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Guest {
    /// One with a fresh root file system; `None`, and a line that says why, where there is no image.
    pub fn new(cpus: u32) -> Option<Self> {
        let image = root().join("target/userland/debian.img");
        let kernel = root().join("target/guest/vmlinux");
        for (path, script) in [(&image, "userland/mk-image.sh"), (&kernel, "fetch-kernel.sh")] {
            if !path.exists() {
                eprintln!("skipped: packaging/{script} was not run");
                return None;
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let number = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("userland-{}-{number}", std::process::id());
        disk::copy(&image, &folder.path().join("root.img"));
        let initramfs = folder.path().join("initramfs");
        let script = root().join("packaging/demo/mk-initramfs.sh");
        let made = Command::new(script).arg(initramfs).arg("guest").status();
        assert!(made.expect("the script starts").success(), "no initramfs");
        Some(Self { folder, name, cpus })
    }

    /// The instance's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives it a second disk, with `run-me` and whatever else is in `folder`.
    pub fn with_second_disk(self, folder: &Path) -> Self {
        disk::make(&self.second_disk(), folder, SECOND_DISK);
        self
    }

    /// Starts it; `init` is its first process after the initramfs.
    pub fn start(&self, init: &str) -> Console {
        let guest = root().join("target/guest");
        let mut command = programs::bulkhead();
        command.args(["run", "--name", &self.name, "--cpu", &engine::software(), "--rng"]);
        command.args(["--memory", "512M"]);
        command.args(["--console", "stdio", "--cpus", &self.cpus.to_string()]);
        for image in [self.root_disk(), self.second_disk()] {
            if image.exists() {
                command.arg("--disk").arg(format!("path={},format=raw", image.display()));
            }
        }
        command.arg("--initrd").arg(self.folder.path().join("initramfs"));
        command.arg("--kernel").arg(guest.join("vmlinux")).arg("--append").arg(format!(
            "console=hvc0 quiet panic=-1 cryptomgr.notests root=/dev/vda init={init}"
        ));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Console::new(command.spawn().expect("bulkhead starts"))
    }

    /// Starts it with the second disk's script as what it runs.
    pub fn start_second_disk(&self) -> Console {
        self.start("/usr/local/sbin/second-disk")
    }

    /// Its processes now.
    pub fn processes(&self) -> Vec<Process> {
        processes(&self.name)
    }

    /// The content of a file on its root disk, when it is not running.
    pub fn read_root(&self, file: &str) -> String {
        disk::read(&self.root_disk(), file)
    }

    /// The content of a file on its second disk, when it is not running.
    pub fn read(&self, file: &str) -> String {
        disk::read(&self.second_disk(), file)
    }

    /// Checks that its file systems were left as an orderly shutdown leaves them.
    pub fn assert_disks_are_clean(&self) {
        for image in [self.root_disk(), self.second_disk()] {
            if image.exists() {
                disk::assert_clean(&image);
            }
        }
    }

    fn root_disk(&self) -> PathBuf {
        self.folder.path().join("root.img")
    }

    fn second_disk(&self) -> PathBuf {
        self.folder.path().join("second.img")
    }
}
