//! A QEMU machine with one vhost-user disk, and the root file system on it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a boot under emulation may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(240);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a root")
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Kernel, initramfs and a root file system whose `/sbin/init` runs a script.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
}

impl Stage {
    /// A stage for this script.
    pub fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = folder.path().join("tree");
        for name in ["bin", "sbin", "dev", "proc", "sys", "run", "tmp"] {
            std::fs::create_dir_all(tree.join(name)).expect("a folder");
        }
        run(Command::new("sh").arg("-c").arg(format!(
            "cp $(command -v busybox) {0}/bin/busybox && for a in sh echo sync sleep dd sha256sum \
             dmesg grep mount poweroff cat; do ln -s busybox {0}/bin/$a; done",
            tree.display()
        )));
        let init = format!(
            "#!/bin/sh\nmount -t devtmpfs dev /dev\nmount -t proc proc /proc\nmount -o remount,rw /\n\
             exec </dev/console >/dev/console 2>&1\n{script}\n"
        );
        std::fs::write(tree.join("sbin/init"), init).expect("written");
        run(Command::new("chmod").arg("+x").arg(tree.join("sbin/init")));
        let mk = root().join("packaging/demo/mk-initramfs.sh");
        run(Command::new(mk).arg(folder.path().join("initramfs")).arg("guest"));
        Self { folder }
    }

    /// A fresh image of the root file system.
    pub fn root_image(&self) -> PathBuf {
        let image = self.folder.path().join("root.img");
        run(Command::new("truncate").args(["-s", "64M"]).arg(&image));
        run(Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d"])
            .arg(self.folder.path().join("tree"))
            .arg(&image));
        image
    }
}

/// A running QEMU.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    lines: Receiver<String>,
}

impl Machine {
    /// Boots from the disk behind `socket`.
    pub fn boot(stage: &Stage, socket: &Path) -> Self {
        let kernel = root().join("target/guest/vmlinuz");
        assert!(kernel.is_file(), "no kernel: run packaging/fetch-kernel.sh");
        let chardev = format!("socket,id=disk,path={},reconnect=1", socket.display());
        let mut child = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-M", "q35", "-accel", "tcg", "-cpu", "max"])
            .args(["-m", "512", "-smp", "1", "-display", "none", "-serial", "stdio", "-no-reboot"])
            .args(["-object", "memory-backend-memfd,id=ram,size=512M,share=on"])
            .args(["-numa", "node,memdev=ram", "-chardev", &chardev])
            .args(["-device", "vhost-user-blk-pci,chardev=disk"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(stage.folder.path().join("initramfs"))
            .args(["-append", "console=ttyS0 quiet panic=-1 root=/dev/vda cryptomgr.notests"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 is installed");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line with these words; returns all that came before.
    pub fn wait_for_line(&mut self, words: &str) -> Vec<String> {
        let start = Instant::now();
        let mut said = Vec::new();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return said,
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("{words:?} never came: {said:#?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("QEMU ended before {words:?}: {said:#?}")
                }
            }
        }
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the guest has powered itself off.
    pub fn wait_for_end(&mut self) {
        let start = Instant::now();
        while self.child.try_wait().expect("a status").is_none() {
            assert!(start.elapsed() < PATIENCE, "the guest does not power off");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Checks that the file system in the image is clean.
pub fn check_file_system(image: &Path) {
    let output = Command::new("/sbin/e2fsck").arg("-fn").arg(image).output().expect("installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
