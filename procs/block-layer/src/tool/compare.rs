//! `compare`: do two disks read the same?

use anyhow::Result;
use bulkhead_block_layer::outcome::Failure;
use bulkhead_block_layer::qcow2::Options;
use bulkhead_block_layer::qcow2::map::Range;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::{Compared, PlannedDisk, ToolEvent};

use super::disk::{self, Disk};
use super::files::Files;
use super::report::Report;

/// Bytes that are compared at a time.
const PIECE: u64 = 1 << 20;

/// Sectors by which places are told.
const SECTOR: u64 = 512;

/// Does it. What lies behind the end of the shorter one counts as zeroes.
pub fn run(
    disks: [&PlannedDisk; 2],
    strict: bool,
    files: &mut Files,
    report: &Report,
) -> Result<()> {
    let [first, second] = disks;
    let first = disk::open(first, Options::READ, files)?;
    let second = disk::open(second, Options::READ, files)?;
    let short = first.size().min(second.size());
    let long = first.size().max(second.size());
    if short != long && strict {
        return report.tell(ToolEvent::Compared(Compared::OtherSize));
    }
    if short != long {
        report.tell(ToolEvent::SizesDiffer)?;
    }
    let mut at = 0;
    while at < long {
        report.progress(at, long)?;
        let end = if at < short { short } else { long };
        let (a, b) = (stretch(&first, at, end)?, stretch(&second, at, end)?);
        let both = a.length.min(b.length);
        if strict && status(&a) != status(&b) {
            return report.tell(ToolEvent::Compared(Compared::OtherStatus(at)));
        }
        // Zeroes of both are not looked at.
        if a.zero && b.zero {
            at += both;
            continue;
        }
        let len = PIECE.min(if strict { both } else { end - at });
        let (a, b) = (bytes(&first, at, len)?, bytes(&second, at, len)?);
        if let Some(offset) = first_difference(&a, &b) {
            let place = (at + offset) / SECTOR * SECTOR;
            return report.tell(ToolEvent::Compared(Compared::OtherBytes(place)));
        }
        at += len;
    }
    report.progress(long, long)?;
    report.tell(ToolEvent::Compared(Compared::Equal))
}

/// What a disk is at `at`, and as far as that holds, to `end` at most.
fn stretch(disk: &Disk, at: u64, end: u64) -> Result<Range, Failure> {
    if at >= disk.size() {
        return Ok(Range::nothing(at, end - at));
    }
    finish(disk.range(at, end.min(disk.size()) - at))
}

/// What `qemu-img compare -s` compares: whether anybody has it, in a place of its own, as data or as zeroes.
fn status(range: &Range) -> (bool, bool, bool, bool) {
    (range.present, range.zero, range.data, range.offset.is_some())
}

fn bytes(disk: &Disk, at: u64, len: u64) -> Result<Vec<u8>> {
    match at < disk.size() {
        true => disk.bytes(at, len),
        false => Ok(vec![0; len as usize]),
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<u64> {
    if a == b {
        return None;
    }
    a.iter().zip(b).position(|(a, b)| a != b).map(|at| at as u64)
}
