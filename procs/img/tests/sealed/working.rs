//! A command that works for a long time, and the process that works for it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::program::program;

/// Longest that anything here may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of a hole that is compressed cluster by cluster: minutes of work that needs no room.
const HOLE: u64 = 256 << 30;

/// See the module.
#[derive(Debug)]
pub struct Working {
    command: Child,
    said: Vec<u8>,
    /// Pid of the process that works.
    pub tool: i32,
}

impl Working {
    /// Converts `hole.raw` to `out.q`, and comes back when that has begun.
    pub fn begin(folder: &Path) -> Self {
        let hole = File::create(folder.join("hole.raw")).expect("a file");
        hole.set_len(HOLE).expect("a hole");
        let mut command = Command::new(program());
        let options = ["-c", "-m", "1", "-S", "0", "-f", "raw", "-O", "qcow2"];
        command.arg("convert").args(options).args(["hole.raw", "out.q"]).current_dir(folder);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let command = command.spawn().expect("bulkhead-img runs");
        let mut working = Self { command, said: Vec::new(), tool: 0 };
        working.tool = working.patiently(|working| working.find_tool());
        working.patiently(|working| (working.descriptors().len() == 6).then_some(()));
        // A cluster: it has its header, and nothing of what was in it.
        let target = folder.join("out.q");
        let has_begun = || fs::metadata(&target).is_ok_and(|target| target.len() >= 65536);
        working.patiently(|_| has_begun().then_some(()));
        working
    }

    fn pid(&self) -> i32 {
        self.command.id() as i32
    }

    fn find_tool(&self) -> Option<i32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "block-tool"
        })
    }

    fn patiently<T>(&mut self, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if let Some(status) = self.command.try_wait().expect("a status") {
                let output = self.end();
                panic!("it ended: {status:?}, {}", String::from_utf8_lossy(&output.stderr));
            }
            assert!(begun.elapsed() < PATIENCE, "it never came");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// `/proc/PID/status`
    pub fn status(&self) -> String {
        fs::read_to_string(format!("/proc/{}/status", self.tool)).expect("a status")
    }

    /// What its descriptors are, by their numbers.
    pub fn descriptors(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.tool)) else {
            return Vec::new();
        };
        let mut numbers: Vec<u32> =
            entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        let name = |number: &u32| {
            let link = fs::read_link(format!("/proc/{}/fd/{number}", self.tool));
            link.map_or(String::new(), |link| link.display().to_string())
        };
        numbers.iter().map(name).collect()
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it lives");
    }

    /// Kills the process that works.
    pub fn kill_tool(&self) {
        kill(Pid::from_raw(self.tool), Signal::SIGKILL).expect("it lives");
    }

    /// Waits until the command has said a line.
    pub fn wait_for_stderr(&mut self) {
        let stderr = self.command.stderr.take().expect("its stderr");
        let mut reader = BufReader::new(stderr);
        reader.read_until(b'\n', &mut self.said).expect("a line");
        let rest = reader.buffer().to_vec();
        self.said.extend(rest);
        self.command.stderr = Some(reader.into_inner());
    }

    /// Waits for the command's end.
    pub fn end(&mut self) -> Output {
        let mut said = std::mem::take(&mut self.said);
        let mut stderr = self.command.stderr.take().expect("its stderr");
        stderr.read_to_end(&mut said).expect("its last words");
        let status = self.command.wait().expect("its end");
        Output { status, stdout: Vec::new(), stderr: said }
    }

    /// Waits until the process that worked is gone.
    pub fn wait_until_gone(&self) {
        let begun = Instant::now();
        let is_there = || {
            let name = fs::read_to_string(format!("/proc/{}/comm", self.tool));
            name.is_ok_and(|name| name.trim() == "block-tool")
                && !self.status().contains("State:\tZ")
        };
        while is_there() {
            assert!(begun.elapsed() < PATIENCE, "it goes on without its command");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Waits until a pipe has no room left.
pub fn wait_until_full(writer: &impl AsFd) {
    let begun = Instant::now();
    let has_room = || {
        let mut set = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        poll(&mut set, PollTimeout::ZERO).expect("a pipe") > 0
    };
    while has_room() {
        assert!(begun.elapsed() < PATIENCE, "it does not write");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for a process's end. One that does not come to it is killed, and has none.
pub fn wait_for(process: &mut Child) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE / 3 {
        if let Some(status) = process.try_wait().expect("a child") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    process.kill().expect("a child");
    process.wait().expect("a child");
    None
}

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.command.kill();
        let _ = self.command.wait();
    }
}
