//! Other people's NBD servers, on a UNIX socket: started, killed, started again.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::rig::Stage;

/// How long a server may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; killed on drop.
pub struct Server {
    command: Command,
    child: Child,
    socket: PathBuf,
    export: &'static str,
}

impl Server {
    /// nbdkit with these arguments, without an export name.
    pub fn nbdkit(stage: &Stage, arguments: &[&str]) -> Self {
        let socket = stage.path("server.sock");
        let mut command = Command::new("nbdkit");
        command.args(["--foreground", "--exit-with-parent", "--unix"]).arg(&socket);
        command.args(arguments);
        Self::start(command, socket, "")
    }

    /// qemu-nbd of an image, as the export `q`.
    pub fn qemu(stage: &Stage, image: &Path, format: &str, more: &[&str]) -> Self {
        let socket = stage.path("server.sock");
        let mut command = Command::new("qemu-nbd");
        command.args(["--persistent", "--shared=16", "--export-name=q", "--discard=unmap"]);
        command.args(["-f", format, "--socket"]).arg(&socket).args(more).arg(image);
        Self::start(command, socket, "q")
    }

    fn start(mut command: Command, socket: PathBuf, export: &'static str) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = spawn(&mut command, &socket);
        Self { command, child, socket, export }
    }

    /// It with the URI of its export, for those who keep several kinds.
    pub fn boxed(server: Self) -> (Box<dyn Any>, String) {
        let uri = server.uri();
        (Box::new(server), uri)
    }

    pub fn uri(&self) -> String {
        format!("nbd+unix:///{}?socket={}", self.export, self.socket.display())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Stops it: from now on it is silent, and its connections stay.
    pub fn silence(&self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, Signal::SIGSTOP).expect("it runs");
    }

    /// Starts it again if it has ended by itself: nbdkit fails an assertion of its own (`raw_send_socket`) now and then
    /// when a client goes in the middle of a request.
    pub fn revive(&mut self) {
        if self.child.try_wait().expect("a status").is_some() {
            self.kill();
            self.again();
        }
    }

    /// Starts it again.
    pub fn again(&mut self) {
        self.child = spawn(&mut self.command, &self.socket);
    }
}

fn spawn(command: &mut Command, socket: &Path) -> Child {
    let mut child = command.spawn().expect("the server starts");
    let start = Instant::now();
    while !socket.exists() {
        let status = child.try_wait().expect("a status");
        assert!(status.is_none(), "the server ended at once: {status:?}");
        assert!(start.elapsed() < PATIENCE, "the server's socket never appeared");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
