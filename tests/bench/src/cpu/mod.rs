//! The software CPU beside QEMU's TCG: the same kernel, initramfs and command line, in turn, on the
//! same CPUs. `make bench-cpu`.
//!
//! The guest is a kernel and one static program (`guest/measure.c`) that says a marker and then runs
//! loops; their rates are by the guest's own clock, boots by the host's. Where the host does other
//! things meanwhile, both sides suffer: the ratio of medians over rounds is what counts.
//!
//! Absent on purpose: KVM, whose figures say nothing about an engine in software.

mod engine;
mod guest;
mod table;

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::Arguments;
use engine::Engine;

/// A row of the guest's: its name there, what is counted, and the least ratio to TCG that is wanted.
const LOOPS: &[(&str, &str, f64)] = &[
    ("crc32", "table CRC-32, bytes", 1.0),
    ("sha256", "SHA-256, bytes", 1.0),
    ("sort", "quicksort, numbers", 1.0),
    ("call", "recursive calls", 1.0),
    ("string", "words parsed", 1.0),
    ("memcpy", "memcpy of 8 MiB, bytes", 1.0),
    ("chase", "pointers followed in 4 MiB", 1.0),
    ("float", "double mul and add", 5.0),
    ("ping-pong", "hand-overs by pipes", 8.0),
    ("getppid", "system calls", 1.0),
    ("fork-exec", "fork, exec, exit", 1.0),
    ("page-fault", "pages touched first", 1.0),
];

/// All measurements: by row, by engine, one a round.
type Measured = BTreeMap<(&'static str, Engine), Vec<f64>>;

/// Measures and prints the table.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let guest = guest::Guest::make(folder.path(), arguments.vcpus)?;
    let engines = engine::present(&guest)?;
    eprintln!("{} rounds of {}", arguments.rounds, engine::names(&engines));
    let mut measured = Measured::new();
    for _ in 0..arguments.rounds {
        for engine in &engines {
            round(arguments, &guest, *engine, &mut measured)
                .with_context(|| format!("with {engine}"))?;
        }
    }
    table::print(&engines, &measured);
    Ok(())
}

fn round(
    arguments: &Arguments,
    guest: &guest::Guest,
    engine: Engine,
    measured: &mut Measured,
) -> Result<()> {
    let mut keep = |row, figure| measured.entry((row, engine)).or_default().push(figure);
    for (row, append) in table::BOOTS {
        if arguments.wants(row) {
            keep(row, guest.boot(engine, append)?.seconds);
        }
    }
    let wanted: Vec<&str> =
        LOOPS.iter().map(|(row, ..)| *row).filter(|row| arguments.wants(row)).collect();
    if !wanted.is_empty() {
        let said = guest.measure(engine, &wanted, arguments.seconds)?;
        for (row, ..) in LOOPS {
            if let Some(rate) = said.get(*row) {
                keep(row, *rate);
            }
        }
    }
    Ok(())
}
