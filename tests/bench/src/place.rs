//! Who runs where.
//!
//! A wake-up of an idle CPU costs tens of microseconds here, which would drown everything else at
//! depth 1. So every row says where its parts run, and where two CPUs take part each has a spinner of
//! the idle class: it gives way to anybody at once and keeps the CPU from going to sleep.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Where the driver and the backend of a row run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All on CPU 0.
    Same,
    /// The backend on CPU 0, the driver on CPU 1, a spinner on each.
    Split,
    /// Queue i's driver on CPU i, the backend on all of them.
    PerQueue,
}

impl Place {
    /// The backend's CPUs, as `taskset -c` takes them.
    pub fn backend(self) -> &'static str {
        match self {
            Self::Same | Self::Split => "0",
            Self::PerQueue => "0,1",
        }
    }

    /// The CPU of queue `queue`'s driver.
    pub fn driver(self, queue: usize) -> usize {
        match self {
            Self::Same => 0,
            Self::Split => 1,
            Self::PerQueue => queue,
        }
    }

    /// What keeps its CPUs awake.
    pub fn spinners(self) -> Result<Vec<Spinner>> {
        match self {
            Self::Split => [0, 1].into_iter().map(Spinner::start).collect(),
            Self::Same | Self::PerQueue => Ok(Vec::new()),
        }
    }
}

/// A loop of the idle class; ended on drop.
#[derive(Debug)]
pub struct Spinner(Child);

impl Spinner {
    /// One on `cpu`.
    pub fn start(cpu: usize) -> Result<Self> {
        let mut command = Command::new("taskset");
        // It must not outlive us, however we end.
        command.args([
            "-c",
            &cpu.to_string(),
            "setpriv",
            "--pdeathsig",
            "KILL",
            "chrt",
            "-i",
            "0",
            "sh",
            "-c",
            "while :; do :; done",
        ]);
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self(child.context("taskset and chrt (util-linux) keep CPUs awake")?))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
