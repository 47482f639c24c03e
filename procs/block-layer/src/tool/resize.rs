//! `resize`: more bytes, or fewer.

use std::rc::Rc;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::outcome::Failure;
use bulkhead_block_layer::qcow2::{Layer, Options, Qcow2};
use bulkhead_block_layer::storage::Storage;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::{PlannedDisk, Preallocation, SizeChange};

use super::create::reserve;
use super::disk::{self, Disk, shut_after};
use super::files::{Files, blame};
use super::raw::RawDisk;
use super::store::Store;

/// Does it.
pub fn run(
    plan: &PlannedDisk,
    change: SizeChange,
    shrink: bool,
    preallocation: Preallocation,
    files: &mut Files,
) -> Result<()> {
    match disk::open(plan, Options::WRITE, files)? {
        Disk::Raw(RawDisk { file, size, .. }) => {
            let wanted = allowed(change, size, shrink)?;
            if !file.grows() {
                return Err(blame(0, "a device keeps its size"));
            }
            file.set_len(wanted)?;
            if wanted > size {
                reserve(&file, wanted, preallocation)?;
            }
            Ok(finish(file.sync())?)
        }
        Disk::Luks(volume) => {
            let wanted = allowed(change, Layer::Luks(Rc::clone(&volume)).size(), shrink)?;
            if preallocation != Preallocation::Off {
                bail!("--preallocation is for raw images");
            }
            if !volume.storage().grows() {
                return Err(blame(0, "a device keeps its size"));
            }
            volume.storage().set_len(volume.start() + wanted)?;
            Ok(finish(volume.storage().sync())?)
        }
        Disk::Qcow2(image) => shut_after(&image, || {
            if preallocation != Preallocation::Off {
                bail!(
                    "--preallocation is for raw images; a qcow2 image allocates when it is written"
                );
            }
            grow_or_shrink(&image, allowed(change, image.size(), shrink)?)
        }),
    }
}

/// The new size, if a disk of `now` bytes may have it.
fn allowed(change: SizeChange, now: u64, shrink: bool) -> Result<u64> {
    let wanted = match change {
        SizeChange::To(size) => Some(size),
        SizeChange::More(more) => now.checked_add(more),
        SizeChange::Fewer(less) => now.checked_sub(less),
    };
    let size = wanted.and_then(|size| size.checked_next_multiple_of(512));
    let size = size.with_context(|| format!("a disk of {now} bytes cannot have that size"))?;
    if size < now && !shrink {
        bail!("{size} bytes would cut data off; add --shrink if that is meant");
    }
    Ok(size)
}

fn grow_or_shrink(image: &Qcow2<Store>, size: u64) -> Result<()> {
    finish(image.resize(size)).map_err(|failure| match failure {
        Failure::TOO_LARGE => anyhow::anyhow!(
            "{size} bytes are too many for clusters of {} bytes; convert the image instead",
            image.cluster_size()
        ),
        Failure::UNSUPPORTED => anyhow::anyhow!(
            "a version 2 image with snapshots or a longer backing file keeps its size; \
             amend it with compat=1.1"
        ),
        failure => failure.into(),
    })
}
