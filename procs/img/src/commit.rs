//! `commit`: what an image has of its own goes into a backing file, and the image is empty afterwards.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::qcow2::{Layer, Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

use crate::cli;
use crate::disk::{Disk, Files, shut_after};
use crate::progress::Progress;
use crate::seal;

/// Bytes that are moved at a time.
const PIECE: u64 = 2 << 20;

/// `commit`
pub fn run(options: &cli::Commit) -> Result<ExitCode> {
    let backing = &options.chain.backing;
    let base = match &options.base {
        None if backing.is_empty() => bail!("give the backing file with --backing FORMAT:PATH"),
        None => 0,
        Some(base) => {
            let same = |path: &Path| path.as_os_str() == base.as_os_str();
            let found = backing.iter().position(|(_, path)| same(path));
            found.with_context(|| {
                format!("-b {}: it is none of the files given with --backing", base.display())
            })?
        }
    };
    // Files between the image and the base keep what they have: the image can only be emptied if there
    // are none, or it would read as they do.
    let empties = options.base.is_none() && !options.keep;
    let files = Files::open_onto(options.format, &options.file, &options.chain, false, Some(base))?;
    seal::seal()?;
    let Disk::Qcow2(image) = files.disk(Options::WRITE)? else {
        bail!("{}: a raw image has no backing file", options.file.display());
    };
    let target = image.backing().and_then(|first| first.chain().nth(base));
    let target = target.context("the image has no such backing file")?;
    shut_after(&image, || {
        let copied = copy(&image, &target, base as u32 + 1, Progress::new(options.progress));
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
    })?;
    if !options.quiet {
        println!("Image committed.");
    }
    Ok(ExitCode::SUCCESS)
}

fn copy(
    image: &Qcow2<Plain>,
    target: &Layer<Plain>,
    depth: u32,
    mut progress: Progress,
) -> Result<()> {
    let size = image.size();
    if target.size() < size {
        finish(target.resize(size)).context("the backing file cannot grow")?;
    }
    let buffer = Heap::zeroes(PIECE as usize);
    let mut at = 0;
    while at < size {
        progress.show(at, size);
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
    progress.end();
    Ok(())
}
