//! `snapshot`: internal snapshots. Without an option they are listed, as by qemu-img.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bulkhead_protocol::tool::{SnapshotAction, ToolCommand, ToolEvent};

use crate::cli::kept::Snapshot;
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::info::print_snapshots;
use crate::tool::Front;

/// `snapshot`
pub fn run(options: &Snapshot, front: &mut Front) -> Result<ExitCode> {
    let action = action(options)?;
    let access = match action {
        SnapshotAction::List => Access::reading(options.share.force_share),
        _ => Access::WRITE,
    };
    let disk = Disk::alone(options.format, &options.file, access)?;
    let mut snapshots = Vec::new();
    let command = ToolCommand::Snapshot { disk: disk.plan.clone(), action };
    front.run(command, &files([&disk]), |event| {
        if let ToolEvent::Snapshot(facts) = event {
            crate::info::add(&mut snapshots, facts)?;
        }
        Ok(())
    })?;
    print_snapshots(&snapshots)?;
    Ok(ExitCode::SUCCESS)
}

fn action(options: &Snapshot) -> Result<SnapshotAction> {
    let Snapshot { create, apply, delete, .. } = options;
    Ok(match (create, apply, delete) {
        (Some(name), _, _) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let (seconds, nanoseconds) = (now.as_secs() as u32, now.subsec_nanos());
            SnapshotAction::Create { name: name.clone(), seconds, nanoseconds }
        }
        (_, Some(name), _) => SnapshotAction::Apply(name.clone()),
        (_, _, Some(name)) => SnapshotAction::Delete(name.clone()),
        _ => SnapshotAction::List,
    })
}
