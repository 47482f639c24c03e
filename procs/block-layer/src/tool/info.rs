//! `info`: what an image says of itself.

use anyhow::Result;
use bulkhead_block_layer::qcow2::{Options, Snapshot, Tracked};
use bulkhead_protocol::tool::{
    BitmapFacts, ImageFacts, PlannedDisk, Qcow2Facts, SnapshotFacts, ToolEvent,
};

use super::disk::{self, Disk};
use super::files::Files;
use super::report::{Report, cut};

/// Tells the header, then snapshots and bitmaps one by one.
pub fn run(plan: &PlannedDisk, files: &mut Files, report: &Report) -> Result<()> {
    let disk = disk::open(plan, Options::LOOK, files)?;
    let size = disk.size();
    let Disk::Qcow2(image) = disk else {
        return report.tell(ToolEvent::Image(Box::new(ImageFacts { size, qcow2: None })));
    };
    let info = image.info();
    let facts = Qcow2Facts {
        version: info.header.version,
        cluster_size: image.cluster_size(),
        refcount_bits: info.refcount_bits(),
        compression: info.header.compression.name().to_owned(),
        lazy_refcounts: info.lazy_refcounts(),
        corrupt: info.corrupt(),
        dirty: info.dirty(),
        extended_l2: info.header.geometry.extended,
        data_file_raw: info.header.is_data_file_raw(),
        backing: info.header.backing,
        backing_format: info.header.extensions.backing_format.map(cut),
        data_file: info.header.extensions.data_file.map(cut),
    };
    report.tell(ToolEvent::Image(Box::new(ImageFacts { size, qcow2: Some(facts) })))?;
    tell_snapshots(&info.snapshots, report)?;
    for bitmap in image.bitmaps() {
        report.tell(ToolEvent::Bitmap(facts_of(&bitmap)))?;
    }
    Ok(())
}

/// One message for each.
pub fn tell_snapshots(snapshots: &[Snapshot], report: &Report) -> Result<()> {
    snapshots.iter().cloned().try_for_each(|snapshot| {
        report.tell(ToolEvent::Snapshot(SnapshotFacts {
            id: cut(snapshot.id),
            name: cut(snapshot.name),
            seconds: snapshot.seconds,
            nanoseconds: snapshot.nanoseconds,
            clock: snapshot.clock,
            state_bytes: snapshot.state_bytes,
            icount: snapshot.icount,
        }))
    })
}

fn facts_of(bitmap: &Tracked) -> BitmapFacts {
    BitmapFacts {
        name: cut(bitmap.name().to_owned()),
        granularity: bitmap.granularity(),
        in_use: bitmap.is_in_use(),
        enabled: bitmap.is_enabled(),
    }
}
