//! `info`: what an image says of itself.

use anyhow::Result;
use bulkhead_block_layer::luks::cipher::{Mode, Start};
use bulkhead_block_layer::luks::header::{self, Slot};
use bulkhead_block_layer::luks::{Header, SECTOR, Volume};
use bulkhead_block_layer::qcow2::{Options, Snapshot, Tracked};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::{
    BitmapFacts, ImageFacts, LuksFacts, PlannedDisk, Qcow2Facts, SlotFacts, SnapshotFacts,
    ToolEvent,
};

use super::disk::{Disk, Parts};
use super::files::Files;
use super::report::{Report, cut};

/// Tells the header, then snapshots and bitmaps one by one.
pub fn run(plan: &PlannedDisk, files: &mut Files, report: &Report) -> Result<()> {
    let told = |size, qcow2, luks| {
        report.tell(ToolEvent::Image(Box::new(ImageFacts { size, qcow2, luks })))
    };
    let parts = Parts::take(plan, files)?;
    if let Some((header, size)) = parts.locked()? {
        return told(size, None, Some(luks_facts(&header)));
    }
    let disk = parts.disk(Options::LOOK)?;
    let size = disk.size();
    let Disk::Qcow2(image) = disk else {
        return told(size, None, None);
    };
    let luks = match image.encryption() {
        Some(encryption) => Some(luks_facts(&finish(Volume::header(image.file(), encryption.at))?)),
        None => None,
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
    told(size, Some(facts), luks)?;
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

fn luks_facts(header: &Header) -> LuksFacts {
    // In XTS mode a key is two.
    let (mode, keys) = match header.spec.mode {
        Mode::Xts => ("xts", 2),
        Mode::Cbc => ("cbc", 1),
    };
    let start = match header.spec.start {
        Start::Plain => "plain",
        Start::Plain64 => "plain64",
        Start::Essiv => "essiv",
    };
    let slot = |(number, slot): (usize, &Option<Slot>)| SlotFacts {
        at: u64::from(
            slot.map_or(header::empty_slot(number, header.key_bytes), |slot| slot.sector),
        ) * SECTOR,
        key: slot.map(|slot| (slot.rounds, slot.stripes)),
    };
    LuksFacts {
        key_bits: (header.key_bytes * 8 / keys) as u32,
        mode: mode.to_owned(),
        start: start.to_owned(),
        hash: header.hash.name().to_owned(),
        uuid: cut(header.uuid.clone()),
        payload: u64::from(header.payload) * SECTOR,
        rounds: header.digest_rounds,
        slots: header.slots.iter().enumerate().map(slot).collect(),
    }
}

fn facts_of(bitmap: &Tracked) -> BitmapFacts {
    BitmapFacts {
        name: cut(bitmap.name().to_owned()),
        granularity: bitmap.granularity(),
        in_use: bitmap.is_in_use(),
        enabled: bitmap.is_enabled(),
    }
}
