//! `rebase`: another backing file. The disk reads as before: where the two backing files differ, what the
//! old one has is copied into the image first. With `-u` only the name changes, and nothing is looked at.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::outcome::Failure;
use bulkhead_block_layer::qcow2::{Layer, Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

use crate::cli::{self, Chain, Format};
use crate::disk::{Disk, Files, shut_after};
use crate::progress::Progress;
use crate::seal;

/// Bytes that are compared at a time.
const PIECE: u64 = 1 << 20;

/// `rebase`
pub fn run(options: &cli::Rebase) -> Result<ExitCode> {
    let name = Some(options.backing_name.as_str()).filter(|name| !name.is_empty());
    let named = match (name, options.backing_format) {
        (Some(_), None) => bail!("a backing file needs its format; add -F FORMAT"),
        (Some(name), Some(format)) => Some((name, format)),
        (None, _) => None,
    };
    let files = Files::open(options.format, &options.file, &options.chain, false)?;
    let new = match named.filter(|_| !options.no_check) {
        Some((name, format)) => Some(open_new(options, name, format)?),
        None => None,
    };
    seal::seal()?;
    let how = Options { alone: options.no_check, ..Options::WRITE };
    let Disk::Qcow2(image) = files.disk(how)? else {
        bail!("{}: a raw image has no backing file", options.file.display());
    };
    let new = new.map(|files| files.disk(Options::READ)).transpose()?.map(Disk::layer);
    shut_after(&image, || {
        if !options.no_check {
            copy(&image, new.as_ref(), Progress::new(options.progress))?;
            // What has no name any more must not be read again.
            image.set_backing(new);
        }
        let named = named.map(|(name, format)| (name, format.name()));
        finish(image.name_backing(named)).map_err(|failure| match failure {
            Failure::INVALID | Failure::TOO_LARGE => {
                anyhow::anyhow!("the name '{}' is too long for the header", options.backing_name)
            }
            failure => failure.into(),
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The new backing file, which is named relative to the image.
fn open_new(options: &cli::Rebase, name: &str, format: Format) -> Result<Files> {
    let folder = options.file.parent().unwrap_or(Path::new(""));
    let chain = Chain { backing: options.new_backing.clone(), data_file: None };
    Files::open(format, &folder.join(name), &chain, true).context("the new backing file")
}

/// Makes the image's own what it would lose.
fn copy(image: &Qcow2<Plain>, new: Option<&Layer<Plain>>, mut progress: Progress) -> Result<()> {
    let old = image.backing();
    let (size, cluster) = (image.size(), image.cluster_size());
    let piece = PIECE.max(cluster);
    let (a, b) = (Heap::zeroes(piece as usize), Heap::zeroes(piece as usize));
    let mut at = 0;
    while at < size {
        progress.show(at, size);
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
    progress.end();
    Ok(())
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

fn fill(layer: Option<&Layer<Plain>>, at: u64, into: &Memory) -> Result<(), Failure> {
    match layer {
        Some(layer) => finish(layer.read(at, into.clone())),
        None => into.zero(),
    }
}

fn keep(
    image: &Qcow2<Plain>,
    old: Option<&Layer<Plain>>,
    at: u64,
    len: u64,
) -> Result<(), Failure> {
    match old.is_some_and(|old| at < old.size()) {
        true => finish(image.adopt(at, len)),
        // The old one ended before: zeroes, which the new one must not hide.
        false => finish(image.zero(at, len, false)),
    }
}
