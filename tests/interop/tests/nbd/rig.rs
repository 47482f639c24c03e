//! `bulkhead storage` with an NBD export, files to serve, and other people's clients.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bulkhead_harness::block::Block;
use bulkhead_harness::programs;
use bulkhead_harness::storage::{Process, processes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long anything may take before a test gives up: far longer than it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for one test.
pub struct Stage {
    folder: TempDir,
}

impl Stage {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of `mebibytes` in which every sector differs.
    pub fn noise(&self, name: &str, mebibytes: u64) -> PathBuf {
        let mut bytes = Vec::with_capacity((mebibytes << 20) as usize);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ mebibytes;
        while bytes.len() < (mebibytes << 20) as usize {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("room");
        path
    }

    /// An empty file of that size.
    pub fn empty(&self, name: &str, mebibytes: u64) -> PathBuf {
        let path = self.path(name);
        std::fs::File::create(&path).and_then(|file| file.set_len(mebibytes << 20)).expect("room");
        path
    }
}

/// A running instance with a disk `d0` and an NBD export of it on a socket; ended on drop.
pub struct Served {
    child: Child,
    name: String,
    socket: PathBuf,
}

impl Served {
    /// Serves `image`; `disk` and `export` are further keys, each with a comma in front.
    pub fn start(stage: &Stage, image: &Path, disk: &str, export: &str) -> Self {
        Self::start_with(stage, image, disk, export, &[])
    }

    /// The same with further arguments.
    pub fn start_with(
        stage: &Stage,
        image: &Path,
        disk: &str,
        export: &str,
        more: &[String],
    ) -> Self {
        let format = if disk.contains("format=") { "" } else { ",format=raw" };
        let disk = format!("path={}{format}{disk}", image.display());
        Self::of(stage, &disk, export, more)
    }

    /// Serves the disk of these keys.
    pub fn of(stage: &Stage, disk: &str, export: &str, more: &[String]) -> Self {
        let number = stage.folder.path().file_name().expect("a name").to_string_lossy();
        let name = format!("nbd-{}-{}", std::process::id(), number.trim_start_matches('.'));
        let socket = stage.path("nbd.sock");
        let disk = format!("id=d0,{disk}");
        let export = format!("nbd,disk=d0,socket={}{export}", socket.display());
        let mut command = programs::bulkhead();
        command.args(["storage", "--name", &name, "--disk", &disk, "--export", &export]);
        command.args(more).stdin(Stdio::null());
        if std::env::var_os("BULKHEAD_TEST_LOG").is_none() {
            command.stderr(Stdio::null());
        }
        let child = command.spawn().expect("bulkhead starts");
        let mut served = Self { child, name, socket };
        let start = Instant::now();
        while !served.socket.exists() {
            let status = served.child.try_wait().expect("a status");
            assert!(status.is_none(), "bulkhead storage ended at once: {status:?}");
            assert!(start.elapsed() < PATIENCE, "the socket never appeared");
            std::thread::sleep(Duration::from_millis(2));
        }
        served
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn uri(&self) -> String {
        format!("nbd+unix:///d0?socket={}", self.socket.display())
    }

    /// `bulkhead block …` for it.
    pub fn block(&self) -> Block {
        Block::of(&self.name)
    }

    /// Its processes of a class.
    pub fn all(&self, role: &str) -> Vec<Process> {
        processes(&self.name).into_iter().filter(|process| process.role == role).collect()
    }

    pub fn process(&self, role: &str) -> Process {
        let found = processes(&self.name).into_iter().find(|process| process.role == role);
        found.unwrap_or_else(|| panic!("there is no {role}"))
    }

    /// Kills a class's process.
    pub fn strike(&self, role: &str) -> Process {
        let before = self.process(role);
        assert!(before.signal(Signal::SIGKILL), "{role} is gone");
        before
    }

    /// Kills a class's process and waits for its successor.
    pub fn kill(&self, role: &str) {
        let before = self.strike(role);
        let start = Instant::now();
        loop {
            let now = self.process(role);
            if now.state == "running" && now.restarts > before.restarts {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{role} was not restarted: {now:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it as a user does; whether it ended well, and after how long.
    pub fn end(mut self) -> (bool, Duration) {
        let start = Instant::now();
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let status = self.child.wait().expect("a status");
        (status.success(), start.elapsed())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// Runs a client and gives what it says.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// The same of one that must succeed: its output.
pub fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same of one that must fail: what it complains of.
pub fn fail(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(!output.status.success(), "{program} {arguments:?} succeeded");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

pub fn same(a: &Path, b: &Path) {
    let same = std::fs::read(a).expect("a file") == std::fs::read(b).expect("a file");
    assert!(same, "{} and {} differ", a.display(), b.display());
}
