//! `commit`: what an image has of its own goes into a backing file, and the image is empty afterwards.

use std::rc::Rc;

use anyhow::{Context, Result};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::qcow2::{Held, Layer, Options};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::PlannedDisk;

use super::disk::{open_qcow2, shut_after};
use super::files::Files;
use super::report::Report;
use super::store::Store;

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
    let base = usize::from(base);
    let top = Layer::Qcow2(Rc::clone(&image));
    let target = top.chain().nth(base).filter(|_| base > 0);
    let target = target.context("the image has no such backing file")?;
    shut_after(&image, || {
        let copied = copy(&top, &target, base, report);
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

fn copy(top: &Layer<Store>, target: &Layer<Store>, base: usize, report: &Report) -> Result<()> {
    let size = top.size();
    if target.size() < size {
        finish(target.resize(size)).context("the backing file cannot grow")?;
    }
    let buffer = Heap::zeroes(PIECE as usize);
    let mut at = 0;
    while at < size {
        report.progress(at, size)?;
        // A layer between the two that is too short for an opinion hides what the base has there.
        let piece = finish(top.piece(at, (size - at).min(PIECE)))?;
        if piece.is_above(Some(base)) {
            if piece.held == Held::Data {
                let part = Memory::from(buffer.clone()).part(0, piece.len);
                finish(top.read(at, part.clone()))?;
                finish(target.write(at, part))?;
            } else {
                finish(target.zero(at, piece.len, true))?;
            }
        }
        at += piece.len;
    }
    report.progress(size, size)
}
