//! `check`: are the counts and flags of an image right?

use anyhow::{Result, bail};
use bulkhead_block_layer::qcow2::{Options, check};
use bulkhead_block_layer::storage::Storage;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::{CheckFacts, PlannedDisk, Repair, ToolEvent};

use super::disk::open_qcow2;
use super::files::Files;
use super::report::{Report, cut};

/// Does it.
pub fn run(disk: &PlannedDisk, repair: Repair, files: &mut Files, report: &Report) -> Result<()> {
    let looking = Options { alone: true, repair: true, discard: false, ..Options::WRITE };
    let image = open_qcow2(disk, looking, files, "nothing to check")?;
    let clusters = image.file().size()?.div_ceil(image.cluster_size());
    if clusters > check::MOST_CLUSTERS {
        bail!(
            "the file has {clusters} clusters of {} bytes, and at most {} are counted; give the image larger \
             ones: bulkhead-img convert -O qcow2 -o cluster_size=2M",
            image.cluster_size(),
            check::MOST_CLUSTERS
        );
    }
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
