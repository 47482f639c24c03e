//! `snapshot`: internal snapshots.

use anyhow::{Context, Result};
use bulkhead_block_layer::qcow2::Options;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::{PlannedDisk, SnapshotAction};

use super::disk::{open_qcow2, shut_after};
use super::files::Files;
use super::info::tell_snapshots;
use super::report::Report;

/// Does it. None of these looks at what lies below the image.
pub fn run(
    disk: &PlannedDisk,
    action: &SnapshotAction,
    files: &mut Files,
    report: &Report,
) -> Result<()> {
    let lists = *action == SnapshotAction::List;
    let how = if lists { Options::LOOK } else { Options { alone: true, ..Options::WRITE } };
    let image = open_qcow2(disk, how, files, "no snapshots")?;
    shut_after(&image, || {
        let (done, verb, name) = match action {
            SnapshotAction::List => return tell_snapshots(&image.snapshots(), report),
            SnapshotAction::Create { name, seconds, nanoseconds } => {
                let done = finish(image.snapshot_create(name, *seconds, *nanoseconds));
                (done, "create", name)
            }
            SnapshotAction::Apply(name) => (finish(image.snapshot_apply(name)), "apply", name),
            SnapshotAction::Delete(name) => (finish(image.snapshot_delete(name)), "delete", name),
        };
        done.with_context(|| format!("Could not {verb} snapshot '{name}'"))
    })
}
