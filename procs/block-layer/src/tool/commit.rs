//! `commit`: what an image has of its own goes into a backing file, and the image is empty afterwards.

use anyhow::{Context, Result};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::qcow2::{Layer, Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::PlannedDisk;

use super::disk::{open_qcow2, shut_after};
use super::files::Files;
use super::report::Report;

/// Bytes that are moved at a time.
const PIECE: u64 = 2 << 20;

/// Moves it into the layer at `base`. Files between keep what they have: the image can only be emptied if
/// there are none, or it would read as they do.
pub fn run(
    disk: &PlannedDisk,
    base: u16,
    empties: bool,
    files: &mut Files,
    report: &Report,
) -> Result<()> {
    let image = open_qcow2(disk, Options::WRITE, files, "no backing file")?;
    let below = usize::from(base).checked_sub(1);
    let target = below.and_then(|below| image.backing()?.chain().nth(below));
    let target = target.context("the image has no such backing file")?;
    shut_after(&image, || {
        let copied = copy(&image, &target, u32::from(base), report);
        let closed = match &target {
            Layer::Qcow2(target) => finish(target.shut()),
            target => finish(target.flush()),
        };
        copied?;
        closed?;
        if empties {
            finish(image.make_empty())?;
        }
        Ok(())
    })
}

fn copy(image: &Qcow2<Plain>, target: &Layer<Plain>, depth: u32, report: &Report) -> Result<()> {
    let size = image.size();
    if target.size() < size {
        finish(target.resize(size)).context("the backing file cannot grow")?;
    }
    let buffer = Heap::zeroes(PIECE as usize);
    let mut at = 0;
    while at < size {
        report.progress(at, size)?;
        let range = finish(image.range(at, (size - at).min(PIECE)))?;
        let len = range.length;
        // What nobody has reads as zeroes in the base as well, unless the base is longer than what is
        // between it and the image.
        if range.present && range.depth < depth {
            if range.zero {
                finish(target.zero(at, len, true))?;
            } else {
                let part = Memory::from(buffer.clone()).part(0, len);
                finish(image.read(at, part.clone()))?;
                finish(target.write(at, part))?;
            }
        }
        at += len;
    }
    report.progress(size, size)
}
