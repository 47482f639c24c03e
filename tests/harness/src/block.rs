//! `bulkhead block …` as a user types it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::programs;

/// How long a job may take before a test gives up: far longer than it does.
const PATIENCE: Duration = Duration::from_secs(120);

/// A disk, as `bulkhead block query --json` tells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Disk {
    /// Its name.
    pub disk: String,
    /// Bytes that its frontends see.
    pub size: u64,
    /// Its block layer serves.
    pub serving: bool,
    /// Its files, the top layer first.
    pub layers: Vec<Layer>,
}

/// A file of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Layer {
    /// Where.
    pub path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Listed {
    report: Job,
}

/// A job, as `bulkhead block jobs --json` tells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Job {
    /// Its name.
    pub job: String,
    /// `running`, `ready`, `concluded`, …
    pub status: String,
    /// Bytes done.
    pub offset: u64,
    /// Bytes in all.
    pub len: u64,
    /// What went wrong.
    pub error: Option<String>,
}

/// The commands for one instance.
#[derive(Debug, Clone)]
pub struct Block(String);

impl Block {
    /// For the instance `name`.
    pub fn of(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Runs `bulkhead block VERB NAME ARGUMENTS`; what it printed, or its complaint.
    pub fn run(&self, verb: &[&str], arguments: &[&str]) -> Result<String, String> {
        let output = self.command(verb, arguments).output().expect("bulkhead block starts");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    /// The command itself, not started.
    pub fn command(&self, verb: &[&str], arguments: &[&str]) -> Command {
        let mut command = programs::bulkhead();
        command.arg("block").args(verb).arg(&self.0).args(arguments);
        command
    }

    /// The same; what is refused because a block layer is dead at this moment is tried again.
    pub fn insist(&self, verb: &[&str], arguments: &[&str]) -> Result<String, String> {
        let start = Instant::now();
        loop {
            match self.run(verb, arguments) {
                Err(complaint) if is_passing(&complaint) && start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    /// The disk `d0`.
    pub fn disk(&self) -> Disk {
        let text = self.run(&["query"], &["--json"]).expect("bulkhead block query");
        let disks: Vec<Disk> = serde_json::from_str(&text).expect("disks as JSON");
        disks.into_iter().next().expect("a disk")
    }

    /// Its files, the top layer first.
    pub fn layers(&self) -> Vec<PathBuf> {
        self.disk().layers.into_iter().map(|layer| layer.path).collect()
    }

    /// Every job.
    pub fn jobs(&self) -> Vec<Job> {
        let text = self.run(&["jobs"], &["--json"]).expect("bulkhead block jobs");
        let jobs: Vec<Listed> = serde_json::from_str(&text).expect("jobs as JSON");
        jobs.into_iter().map(|listed| listed.report).collect()
    }

    /// Takes a job that was started with `--keep` to its end: completes it whenever it is ready, and
    /// dismisses it when it has ended. How it ended.
    pub fn finish(&self, job: &str) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let found = self.jobs().into_iter().find(|found| found.job == job);
            let found = found.ok_or_else(|| format!("job {job} is gone"))?;
            match found.status.as_str() {
                "concluded" => {
                    self.insist(&["job", "dismiss"], &[job])?;
                    if let Some(error) = found.error {
                        return Err(error);
                    }
                    assert_eq!(found.offset, found.len, "{found:?}");
                    return Ok(());
                }
                // A refusal is looked at again: its block layer may be dead by now.
                "ready" => drop(self.run(&["job", "complete"], &[job])),
                _ => {}
            }
            assert!(start.elapsed() < PATIENCE, "job {job} does not end: {found:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A snapshot into a new file.
    pub fn snapshot(&self, path: &Path) -> Result<(), String> {
        let overlay = format!("d0,path={},cluster-size=4096", path.display());
        self.insist(&["snapshot"], &["--disk", &overlay]).map(drop)
    }
}

fn is_passing(complaint: &str) -> bool {
    ["being replaced", "died before"].iter().any(|reason| complaint.contains(reason))
}
