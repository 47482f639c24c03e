//! `bulkhead storage` as a user runs it, and its processes as `bulkhead ps` shows them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::programs;

/// How long anything may take before a test gives up: far longer than it does.
const PATIENCE: Duration = Duration::from_secs(60);

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// One process, as `bulkhead ps --json` tells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Process {
    /// Its class.
    pub role: String,
    /// Which one of its class.
    pub id: String,
    /// 0 while there is none.
    pub pid: i32,
    /// `starting`, `running`, `restarting`, …
    pub state: String,
    /// Successors so far.
    pub restarts: u64,
    /// Proportional set size, where it can be seen.
    pub pss_kib: Option<u64>,
}

impl Process {
    /// Sends it a signal; `false` if it is gone.
    pub fn signal(&self, signal: Signal) -> bool {
        self.pid > 1 && kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image.
    pub image: PathBuf,
    /// Further keys of `--disk`, each with a comma in front (`,cache=none`).
    pub disk: String,
    /// Queues.
    pub queues: u16,
    /// Further exports, as `--export` takes them.
    pub exports: Vec<String>,
    /// Whether the disk is an NBD export as well.
    pub nbd: bool,
    /// CPUs it may use, as `taskset -c` takes them; empty: all of the caller's.
    pub cpus: String,
}

impl Options {
    /// An image with `queues` queues.
    pub fn new(image: &Path, queues: u16) -> Self {
        let (disk, cpus) = (String::new(), String::new());
        Self { image: image.to_owned(), disk, queues, exports: Vec::new(), nbd: false, cpus }
    }

    /// A further export.
    pub fn export(mut self, export: String) -> Self {
        self.exports.push(export);
        self
    }

    /// Further keys of `--disk`.
    pub fn disk(mut self, keys: &str) -> Self {
        self.disk.push_str(keys);
        self
    }

    /// An NBD export beside the other.
    pub fn nbd(mut self) -> Self {
        self.nbd = true;
        self
    }

    /// CPUs, as `taskset -c` takes them.
    pub fn cpus(mut self, cpus: &str) -> Self {
        self.cpus = cpus.to_owned();
        self
    }
}

/// A running instance with one disk `d0`; ended on drop.
#[derive(Debug)]
pub struct Storage {
    child: Child,
    name: String,
    socket: PathBuf,
}

impl Storage {
    /// Starts one and waits for its socket.
    pub fn start(options: &Options) -> Self {
        let number = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("storage-test-{}-{number}", std::process::id());
        let socket = std::env::temp_dir().join(format!("{name}.sock"));
        let child = command(options, &name, &socket).spawn().expect("bulkhead starts");
        let mut storage = Self { child, name, socket };
        let start = Instant::now();
        while !storage.socket.exists() || (options.nbd && !storage.nbd_socket().exists()) {
            let status = storage.child.try_wait().expect("a status");
            assert!(status.is_none(), "bulkhead storage ended at once: {status:?}");
            assert!(start.elapsed() < PATIENCE, "the socket never appeared");
            std::thread::sleep(Duration::from_millis(1));
        }
        storage
    }

    /// Where frontends connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where NBD clients connect.
    pub fn nbd_socket(&self) -> PathBuf {
        nbd_socket(&self.socket)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its processes now.
    pub fn processes(&self) -> Vec<Process> {
        processes(&self.name)
    }

    /// The one process of a class (`vhost-blk`, `block-layer`, …).
    pub fn process(&self, role: &str) -> Process {
        let found = self.processes().into_iter().find(|process| process.role == role);
        found.unwrap_or_else(|| panic!("there is no {role} in {}", self.name))
    }

    /// Waits until the class's process runs and has been restarted at least `restarts` times.
    pub fn wait_for_restart(&self, role: &str, restarts: u64) -> Process {
        let start = Instant::now();
        loop {
            let process = self.process(role);
            if process.state == "running" && process.restarts >= restarts {
                return process;
            }
            assert!(start.elapsed() < PATIENCE, "{role} was not restarted: {process:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it as a user does, and returns how it ended.
    pub fn end(mut self) -> ExitStatus {
        self.terminate()
    }

    fn terminate(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let _ = kill(pid, Signal::SIGTERM);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// The processes of the instance `name` now.
pub fn processes(name: &str) -> Vec<Process> {
    let output = programs::bulkhead().args(["ps", "--json", name]).output();
    let output = output.expect("bulkhead ps starts");
    let text = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_slice(&output.stdout) {
        Ok(list) => list,
        Err(error) => {
            let complaint = String::from_utf8_lossy(&output.stderr);
            panic!("bulkhead ps: {error}: {text}{complaint}")
        }
    }
}

fn nbd_socket(socket: &Path) -> PathBuf {
    socket.with_extension("nbd")
}

fn command(options: &Options, name: &str, socket: &Path) -> Command {
    let program = programs::folder().join("bulkhead");
    let mut command = if options.cpus.is_empty() {
        Command::new(program)
    } else {
        let mut taskset = Command::new("taskset");
        taskset.args(["-c", &options.cpus]).arg(program);
        taskset
    };
    let format = if options.disk.contains(",format=") { "" } else { ",format=raw" };
    let disk = format!("id=d0,path={}{format}{}", options.image.display(), options.disk);
    let export =
        format!("vhost-user-blk,disk=d0,socket={},queues={}", socket.display(), options.queues);
    command.args(["storage", "--name", name, "--disk", &disk, "--export", &export]);
    command.args(options.exports.iter().flat_map(|export| ["--export", export]));
    if options.nbd {
        let export = format!("nbd,disk=d0,socket={}", nbd_socket(socket).display());
        command.args(["--export", &export]);
    }
    command.stdin(Stdio::null());
    // A line for each restart: of use to whoever looks for a fault, noise to all others.
    if std::env::var_os("BULKHEAD_TEST_LOG").is_none() {
        command.stderr(Stdio::null());
    }
    command
}
