//! `bitmap`: the persistent bitmaps of an image. Several changes may be asked for, and are made in their
//! order; the first that fails ends it, as in qemu-img.

use anyhow::{Context, Result};
use bulkhead_block_layer::bitmap::Bits;
use bulkhead_block_layer::qcow2::{BitmapError, Options, Qcow2};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::{BitmapChange, PlannedDisk};

use super::disk::{open_qcow2, shut_after};
use super::files::Files;
use super::store::Store;

/// What raw images lack.
const LACKING: &str = "no bitmaps";

/// Makes the changes.
pub fn run(
    disk: &PlannedDisk,
    source: Option<&PlannedDisk>,
    name: &str,
    changes: &[BitmapChange],
    files: &mut Files,
) -> Result<()> {
    let how = Options { alone: true, ..Options::WRITE };
    let image = open_qcow2(disk, how, files, LACKING)?;
    shut_after(&image, || {
        let source = source.map(|disk| open_qcow2(disk, Options::LOOK, files, LACKING));
        let source = source.transpose()?;
        for change in changes {
            let done = make(&image, source.as_deref(), name, change);
            let what = verb(change);
            done.with_context(|| format!("Operation {what} on bitmap {name} failed"))?;
        }
        Ok(())
    })
}

/// As it is asked for.
fn verb(change: &BitmapChange) -> &'static str {
    match change {
        BitmapChange::Add { .. } => "add",
        BitmapChange::Remove => "remove",
        BitmapChange::Clear => "clear",
        BitmapChange::Enable(true) => "enable",
        BitmapChange::Enable(false) => "disable",
        BitmapChange::Merge(_) => "merge",
    }
}

fn make(
    image: &Qcow2<Store>,
    source: Option<&Qcow2<Store>>,
    name: &str,
    change: &BitmapChange,
) -> Result<(), BitmapError> {
    match change {
        BitmapChange::Add { granularity, enabled } => {
            let granularity = granularity.unwrap_or(image.usual_granularity());
            finish(image.bitmap_add(name, granularity, *enabled))
        }
        BitmapChange::Remove => finish(image.bitmap_remove(name)),
        BitmapChange::Clear => finish(image.bitmap_clear(name)),
        BitmapChange::Enable(enabled) => finish(image.bitmap_enable(name, *enabled)),
        BitmapChange::Merge(other) => {
            let bits = bits_of(source.unwrap_or(image), other)?;
            finish(image.bitmap_merge(name, &bits))
        }
    }
}

/// What a bitmap of an image has.
pub fn bits_of(image: &Qcow2<Store>, name: &str) -> Result<Bits, BitmapError> {
    let bitmap = finish(image.bitmap_bits(name))?;
    bitmap.bits().ok_or_else(|| BitmapError::Inconsistent(name.to_owned()))
}
