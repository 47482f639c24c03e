//! `qemu-storage-daemon` as a peer: somebody else's vhost-user-blk backend.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running daemon that exports one raw image; killed on drop.
pub struct StorageDaemon {
    child: Child,
    socket: PathBuf,
    arguments: Vec<String>,
}

impl StorageDaemon {
    /// Whether it is installed. A test that needs it says so and is skipped otherwise.
    pub fn is_installed() -> bool {
        let found =
            Command::new("qemu-storage-daemon").arg("--version").stdout(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    }

    /// Exports `image` (raw, writable) with `queues` queues at `socket`.
    pub fn start(image: &Path, socket: &Path, queues: u16) -> std::io::Result<Self> {
        let blockdev = format!("file,node-name=d0,filename={},discard=unmap", image.display());
        let export = format!(
            "vhost-user-blk,id=e0,node-name=d0,writable=on,num-queues={queues},addr.type=unix,addr.path={}",
            socket.display()
        );
        let arguments = vec!["--blockdev".into(), blockdev, "--export".into(), export];
        let child = spawn(&arguments)?;
        Ok(Self { child, socket: socket.to_owned(), arguments })
    }

    /// Its socket, which appears once it is ready.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills and reaps it.
    pub fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Kills it and starts a successor at the same socket.
    pub fn restart(&mut self) -> std::io::Result<()> {
        self.kill()?;
        let _ = std::fs::remove_file(&self.socket);
        self.child = spawn(&self.arguments)?;
        Ok(())
    }
}

impl Drop for StorageDaemon {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn spawn(arguments: &[String]) -> std::io::Result<Child> {
    Command::new("qemu-storage-daemon").args(arguments).stdin(Stdio::null()).spawn()
}
