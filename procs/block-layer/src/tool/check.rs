//! `check`: are the counts and flags of an image right?

use anyhow::Result;
use bulkhead_block_layer::qcow2::{Options, check};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::{CheckFacts, PlannedDisk, Repair, ToolEvent};

use super::disk::open_qcow2;
use super::files::Files;
use super::report::{Report, cut};

/// Does it.
pub fn run(disk: &PlannedDisk, repair: Repair, files: &mut Files, report: &Report) -> Result<()> {
    let looking = Options { alone: true, repair: true, discard: false, ..Options::WRITE };
    let image = open_qcow2(disk, looking, files, "nothing to check")?;
    let found = finish(image.check(match repair {
        Repair::Nothing => check::Repair::Nothing,
        Repair::Leaks => check::Repair::Leaks,
        Repair::All => check::Repair::All,
    }))?;
    for finding in found.findings {
        report.tell(ToolEvent::Finding(cut(finding)))?;
    }
    report.tell(ToolEvent::Checked(CheckFacts {
        corruptions: found.corruptions,
        leaks: found.leaks,
        corruptions_fixed: found.corruptions_fixed,
        leaks_fixed: found.leaks_fixed,
        total: found.total,
        allocated: found.allocated,
        compressed: found.compressed,
        fragmented: found.fragmented,
        image_end: found.image_end,
    }))
}
