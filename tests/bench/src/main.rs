//! Figures, to be read by people: `make bench`, `make bench-block`, `make bench-cpu`, or
//! `cargo run --release -p bulkhead-bench -- [ROW…]`.
//!
//! Absolute figures move by a factor of two between two hours on one machine. So a peer and ours are
//! measured in turn, a few rounds of each, and what counts is the ratio of their medians. CPU time
//! per request is counted over all processes of a side; it is steadier than any rate.
//!
//! Never part of the test suite: nothing here is asserted.
#![forbid(unsafe_code)]

mod block;
mod contender;
mod cpu;
mod load;
mod measure;
mod place;
mod report;
mod ring_alone;
mod rows;
mod start;
mod usage;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;

/// Measures disk rows beside qemu-storage-daemon and prints a Markdown table.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rows whose name contains one of these words; all rows if none is given
    words: Vec<String>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measurements of each side of a row
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Folder of the image on tmpfs
    #[arg(long, default_value = "/dev/shm")]
    memory: std::path::PathBuf,
    /// Folder of the image on a disk
    #[arg(long, default_value = "/var/tmp")]
    disk: std::path::PathBuf,
    /// Only the block ring, without virtqueues and without a peer
    #[arg(long)]
    ring: bool,
    /// Only the software CPU, beside QEMU's TCG
    #[arg(long)]
    cpu: bool,
    /// With --cpu: how many vCPUs
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    /// Only images, NBD, conversion and snapshots, each beside the tool that people use for it
    #[arg(long)]
    block: bool,
    /// Only how long a VM takes to start and how much memory its processes take
    #[arg(long)]
    start: bool,
}

impl Arguments {
    fn wants(&self, row: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| row.contains(word))
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.ring {
        return ring_alone::run(&arguments);
    }
    if arguments.start {
        return start::run(&arguments);
    }
    if arguments.block {
        return block::run(&arguments);
    }
    if arguments.cpu {
        return cpu::run(&arguments);
    }
    report::header();
    for row in rows::all().iter().filter(|row| arguments.wants(row.name)) {
        rows::run(row, &arguments)?;
    }
    Ok(())
}
