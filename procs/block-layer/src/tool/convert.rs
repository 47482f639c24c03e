//! `convert`: the bytes of disks into another image, and their bitmaps if that is asked for.
//!
//! Compressing is most of the work where it is asked for, so threads do it ([`pack`](super::pack)); the
//! clusters are written in their order all the same, so that the image is the same however many there are.

use std::rc::Rc;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::qcow2::{Options, Qcow2};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::{BrokenBitmaps, ConvertPlan, NewImage, ToolEvent};

use super::bitmap::bits_of;
use super::copy::Copy;
use super::course;
use super::create::Target;
use super::disk::{self, Disk};
use super::files::{Files, blame};
use super::hands::Hands;
use super::joined::Joined;
use super::report::{Report, cut};
use super::store::Store;

/// Does it.
pub fn run(plan: ConvertPlan, files: &mut Files, hands: &Hands, report: &Report) -> Result<()> {
    let open = |source| disk::open(source, Options::READ, files);
    let disks: Vec<Disk> = plan.sources.iter().map(open).collect::<Result<_>>()?;
    if let Some(name) = &plan.snapshot {
        let Some(Disk::Qcow2(image)) = disks.first() else {
            return Err(blame(0, "a raw image has no snapshots"));
        };
        finish(image.show_snapshot(name)).map_err(|error| blame(0, error))?;
    }
    let source = Rc::new(Joined::new(disks));
    if plan.bitmaps == Some(BrokenBitmaps::Refused) {
        refuse_broken(&source)?;
    }
    let (target, used) = target(&plan, source.size(), files, report)?;
    let len = source.size();
    let used = used && !plan.target_is_zero;
    let (begin, sparse) = (0, plan.sparse);
    let target = Rc::new(target);
    let copy =
        Copy { source: Rc::clone(&source), begin, len, target: Rc::clone(&target), sparse, used };
    let tell = |done| report.progress(done, len);
    let copied = match plan.compress {
        true => copy.compressed(hands, tell),
        false => course::run(copy, plan.pieces.into(), !plan.any_order, hands, tell),
    };
    let copied = copied.and_then(|()| match plan.bitmaps {
        Some(_) => copy_bitmaps(&source, &target, report),
        None => Ok(()),
    });
    let closed = target.finish();
    copied?;
    Ok(closed?)
}

/// The target, and whether it may read as something else than zeroes.
fn target(
    plan: &ConvertPlan,
    size: u64,
    files: &mut Files,
    report: &Report,
) -> Result<(Disk, bool)> {
    if let Some(existing) = &plan.existing {
        let disk = disk::open(existing, Options::WRITE, files)?;
        if disk.size() < size {
            bail!(
                "the target has {} bytes and the disk {size}; resize the target first",
                disk.size()
            );
        }
        return Ok((disk, true));
    }
    let image = NewImage { size: size.next_multiple_of(512), ..plan.target.clone() };
    let target = Target::take(&image, files)?;
    let used = target.is_used();
    Ok((target.fill(&image, report)?, used))
}

fn image_of(source: &Joined) -> Result<&Qcow2<Store>> {
    match source.first() {
        Some(Disk::Qcow2(image)) => Ok(image),
        _ => Err(blame(0, "a raw image has no bitmaps")),
    }
}

/// Before a byte is copied.
fn refuse_broken(source: &Joined) -> Result<()> {
    let bitmaps = image_of(source)?.bitmaps();
    match bitmaps.iter().find(|bitmap| !bitmap.is_consistent()) {
        None => Ok(()),
        Some(bitmap) => bail!(
            "Cannot copy inconsistent bitmap '{}'; remove it: bulkhead-img bitmap --remove, \
             or use --skip-broken-bitmaps",
            bitmap.name()
        ),
    }
}

/// Afterwards: what was copied is no change of the disk.
fn copy_bitmaps(source: &Joined, target: &Disk, report: &Report) -> Result<()> {
    let source = image_of(source)?;
    let Disk::Qcow2(target) = target else {
        bail!("--bitmaps needs a qcow2 target");
    };
    for bitmap in source.bitmaps() {
        let name = bitmap.name();
        if !bitmap.is_consistent() {
            report.tell(ToolEvent::BitmapSkipped(cut(name.to_owned())))?;
            continue;
        }
        let bits = bits_of(source, name)?;
        let made = finish(target.bitmap_add(name, bitmap.granularity(), bitmap.is_enabled()));
        let merged = made.and_then(|()| finish(target.bitmap_merge(name, &bits)));
        merged.with_context(|| format!("bitmap '{name}' cannot be copied"))?;
    }
    Ok(())
}
