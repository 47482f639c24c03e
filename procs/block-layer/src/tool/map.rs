//! `map`: where every byte of a disk is.

use anyhow::Result;
use bulkhead_block_layer::qcow2::{Options, map};
use bulkhead_protocol::tool::{MOST_RANGES, PlannedDisk, Range, ToolEvent};

use super::disk;
use super::files::Files;
use super::report::Report;

/// Tells it, a message's worth at a time.
pub fn run(plan: &PlannedDisk, files: &mut Files, report: &Report) -> Result<()> {
    let mut told = Vec::new();
    disk::open(plan, Options::READ, files)?.ranges(|range| {
        told.push(plain(range));
        if told.len() == MOST_RANGES {
            report.tell(ToolEvent::Ranges(std::mem::take(&mut told)))?;
        }
        Ok(())
    })?;
    report.tell(ToolEvent::Ranges(told))
}

fn plain(range: map::Range) -> Range {
    let map::Range { start, length, depth, present, zero, data, compressed, offset } = range;
    Range { start, length, depth, present, zero, data, compressed, offset }
}
