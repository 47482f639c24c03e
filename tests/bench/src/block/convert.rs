//! `bulkhead-img convert` beside `qemu-img convert`: whole commands, from file to file on tmpfs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use bulkhead_harness::programs;

use super::command::{command, output, text, timed};
use super::table::{Line, Turn, Unit, take_turns};
use crate::Arguments;

/// Every other piece of an image is a hole.
const PIECE: usize = 1 << 20;

struct Row {
    name: &'static str,
    mebibytes: u64,
    from: &'static str,
    to: &'static [&'static str],
    wanted: f64,
}

const ZLIB: &[&str] = &["-O", "qcow2", "-c"];
const ZSTD: &[&str] = &["-O", "qcow2", "-c", "-o", "compression_type=zstd"];

const ROWS: [Row; 4] = [
    Row {
        name: "convert raw to qcow2, 2 GiB, half holes",
        mebibytes: 2048,
        from: "raw",
        to: &["-O", "qcow2"],
        wanted: 1.0,
    },
    Row {
        name: "convert qcow2 to raw, 2 GiB, half holes",
        mebibytes: 2048,
        from: "qcow2",
        to: &["-O", "raw"],
        wanted: 1.0,
    },
    Row { name: "convert -c, zlib, 256 MiB", mebibytes: 256, from: "raw", to: ZLIB, wanted: 1.5 },
    Row { name: "convert -c, zstd, 256 MiB", mebibytes: 256, from: "raw", to: ZSTD, wanted: 1.5 },
];

/// A line for each row.
pub fn run(arguments: &Arguments) -> Result<()> {
    for row in ROWS.iter().filter(|row| arguments.wants(row.name)) {
        let folder = tempfile::tempdir_in(&arguments.memory)?;
        let source = folder.path().join("source");
        fill(&source, row.mebibytes)?;
        if row.from != "raw" {
            let raw = folder.path().join("raw");
            std::fs::rename(&source, &raw)?;
            let (from, to) = (text(&raw), text(&source));
            output(&mut command(&["qemu-img", "convert", "-f", "raw", "-O", row.from, from, to]))?;
        }
        let turn = |program: fn() -> Command| -> Turn<'_> {
            let (source, target) = (&source, folder.path().join("target"));
            Box::new(move || {
                let mut command = program();
                command.args(["convert", "-f", row.from]).args(row.to).arg(source).arg(&target);
                let took = timed(&mut command)?;
                std::fs::remove_file(&target)?;
                Ok(took)
            })
        };
        let theirs = turn(|| Command::new("qemu-img"));
        let ours = turn(|| Command::new(programs::folder().join("bulkhead-img")));
        let figures = take_turns(arguments.rounds, &mut [theirs, ours])?;
        let line =
            Line { what: row.name, peer: "qemu-img", unit: Unit::Seconds, wanted: row.wanted };
        line.print(&figures[0], &figures[1]);
    }
    Ok(())
}

/// Numbered lines as of a log, which compress to a third, and holes.
fn fill(path: &Path, mebibytes: u64) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(mebibytes << 20)?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for piece in (0..mebibytes).step_by(2) {
        let mut bytes = Vec::with_capacity(PIECE + 64);
        while bytes.len() < PIECE {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes.extend(format!("line {} of {piece}: value {random:016x}\n", bytes.len()).bytes());
        }
        file.write_all_at(&bytes[..PIECE], piece << 20)?;
    }
    Ok(())
}
