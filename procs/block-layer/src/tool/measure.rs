//! `measure`: the room that an image would need.

use anyhow::Result;
use bulkhead_block_layer::luks;
use bulkhead_block_layer::qcow2::{Options, Qcow2};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::block::LayerFormat;
use bulkhead_protocol::tool::{NewImage, PlannedDisk, Preallocation, ToolEvent};

use super::disk::{self, Disk};
use super::files::{Files, blame};
use super::report::Report;
use super::store::Store;

/// Does it.
pub fn run(
    plan: Option<&PlannedDisk>,
    snapshot: Option<&str>,
    image: &NewImage,
    files: &mut Files,
    report: &Report,
) -> Result<()> {
    let disk = plan.map(|plan| disk::open(plan, Options::READ, files)).transpose()?;
    if let Some(name) = snapshot {
        let Some(Disk::Qcow2(source)) = &disk else {
            return Err(blame(0, "a raw image has no snapshots"));
        };
        finish(source.show_snapshot(name)).map_err(|error| blame(0, error))?;
    }
    let size = disk.as_ref().map_or(image.size, Disk::size).next_multiple_of(512);
    let mut bitmaps = None;
    let (required, full) = match image.format {
        LayerFormat::Raw => (size, size),
        LayerFormat::Luks => {
            let all = luks::Wanted::default().header_bytes() + size;
            (all, all)
        }
        LayerFormat::Qcow2 => {
            let cluster = image.cluster_size;
            let clusters = size.div_ceil(cluster);
            let data = match &disk {
                _ if image.preallocation != Preallocation::Off => clusters,
                None => 0,
                Some(disk) => used(disk, cluster)?,
            };
            if let Some(Disk::Qcow2(source)) = &disk
                && image.version > 2
                && source.header().version > 2
            {
                bitmaps = Some(bytes_of_bitmaps(source, cluster));
            }
            let all = metadata(image, size, clusters);
            (all + data * cluster, all + clusters * cluster)
        }
    };
    report.tell(ToolEvent::Measured { required, full, bitmaps })
}

/// Clusters that have something else than zeroes.
fn used(disk: &Disk, cluster: u64) -> Result<u64> {
    let (mut used, mut counted) = (0, 0);
    disk.ranges(|range| {
        if !range.zero {
            let first = (range.start / cluster).max(counted);
            let end = (range.start + range.length).div_ceil(cluster);
            used += end.saturating_sub(first);
            counted = counted.max(end);
        }
        Ok(())
    })?;
    Ok(used)
}

/// Bytes of an image whose every cluster is there, without those clusters.
fn metadata(image: &NewImage, size: u64, clusters: u64) -> u64 {
    let cluster = image.cluster_size;
    let entry = if image.extended_l2 { 16 } else { 8 };
    let tables = (clusters * entry).div_ceil(cluster);
    let l1 = (size.div_ceil(cluster / entry * cluster) * 8).div_ceil(cluster);
    let data = if image.data_file.is_some() { 0 } else { clusters };
    let without = 1 + tables + l1 + data;
    let counts = cluster * 8 / u64::from(image.refcount_bits);
    let (mut blocks, mut reftable) = (0, 0);
    loop {
        let next = (without + blocks + reftable).div_ceil(counts);
        let table = (next * 8).div_ceil(cluster);
        if (next, table) == (blocks, reftable) {
            break;
        }
        (blocks, reftable) = (next, table);
    }
    (1 + tables + l1 + blocks + reftable) * cluster
}

/// Bytes that the bitmaps of an image take in another one: bits, tables, and the directory.
fn bytes_of_bitmaps(source: &Qcow2<Store>, cluster: u64) -> u64 {
    let (mut bytes, mut directory) = (0u64, 0u64);
    for bitmap in source.bitmaps() {
        let clusters = source.size().div_ceil(bitmap.granularity()).div_ceil(8).div_ceil(cluster);
        bytes += clusters * cluster + (clusters * 8).next_multiple_of(cluster);
        // An entry of the directory: 24 bytes, the name, and room to the next multiple of 8.
        directory += (24 + bitmap.name().len() as u64).next_multiple_of(8);
    }
    bytes + directory.next_multiple_of(cluster)
}
