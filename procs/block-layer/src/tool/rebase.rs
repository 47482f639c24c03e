//! `rebase`: another backing file. The disk reads as before: where the two backing files differ, what the
//! old one has is copied into the image first. Or only the name changes, and nothing is looked at.

use anyhow::{Result, anyhow};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::outcome::Failure;
use bulkhead_block_layer::qcow2::{Layer, Options, Qcow2};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::tool::PlannedDisk;

use super::disk::{self, Disk, open_qcow2, shut_after};
use super::files::Files;
use super::report::Report;
use super::store::Store;

/// Bytes that are compared at a time.
const PIECE: u64 = 1 << 20;

/// Does it.
pub fn run(
    plan: &PlannedDisk,
    new: Option<&PlannedDisk>,
    named: Option<&(String, String)>,
    only_name: bool,
    files: &mut Files,
    report: &Report,
) -> Result<()> {
    let how = Options { alone: only_name, ..Options::WRITE };
    let image = open_qcow2(plan, how, files, "no backing file")?;
    shut_after(&image, || {
        let new = new.map(|plan| disk::open(plan, Options::READ, files)).transpose()?;
        let new = new.map(Disk::layer);
        if !only_name {
            copy(&image, new.as_ref(), report)?;
            // What has no name any more must not be read again.
            image.set_backing(new);
        }
        let named = named.map(|(name, format)| (name.as_str(), format.as_str()));
        finish(image.name_backing(named)).map_err(|failure| match (failure, named) {
            (Failure::INVALID | Failure::TOO_LARGE, Some((name, _))) => {
                anyhow!("the name '{name}' is too long for the header")
            }
            (failure, _) => failure.into(),
        })
    })
}

/// Makes the image's own what it would lose.
fn copy(image: &Qcow2<Store>, new: Option<&Layer<Store>>, report: &Report) -> Result<()> {
    let old = image.backing();
    let (size, cluster) = (image.size(), image.cluster_size());
    let piece = PIECE.max(cluster);
    let (a, b) = (Heap::zeroes(piece as usize), Heap::zeroes(piece as usize));
    let mut at = 0;
    while at < size {
        report.progress(at, size)?;
        let end = (at / piece + 1) * piece;
        let range = finish(image.range(at, end.min(size) - at))?;
        let len = range.length;
        if range.present && range.depth == 0 {
            at += len;
            continue;
        }
        let (old_part, new_part) = (part(&a, len), part(&b, len));
        fill(old.as_ref(), at, &old_part)?;
        fill(new, at, &new_part)?;
        let (old_bytes, new_bytes) = (bytes(&old_part), bytes(&new_part));
        let mut from = at;
        while from < at + len {
            // Whole clusters: one that is copied is copied whole.
            let to = ((from / cluster + 1) * cluster).min(at + len);
            let within = (from - at) as usize..(to - at) as usize;
            if old_bytes[within.clone()] != new_bytes[within] {
                keep(image, old.as_ref(), from, to - from)?;
            }
            from = to;
        }
        at += len;
    }
    report.progress(size, size)
}

fn part(heap: &Heap, len: u64) -> Memory {
    Memory::from(heap.clone()).part(0, len)
}

fn bytes(memory: &Memory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len() as usize];
    // As long as itself.
    let _ = memory.copy_to(&mut bytes);
    bytes
}

fn fill(layer: Option<&Layer<Store>>, at: u64, into: &Memory) -> Result<(), Failure> {
    match layer {
        Some(layer) => finish(layer.read(at, into.clone())),
        None => into.zero(),
    }
}

fn keep(
    image: &Qcow2<Store>,
    old: Option<&Layer<Store>>,
    at: u64,
    len: u64,
) -> Result<(), Failure> {
    match old.is_some_and(|old| at < old.size()) {
        true => finish(image.adopt(at, len)),
        // The old one ended before: zeroes, which the new one must not hide.
        false => finish(image.zero(at, len, false)),
    }
}
