//! `convert`: a disk's bytes into a fresh image. What reads as zeroes is not written.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::qcow2::Options;
use bulkhead_block_layer::storage::Storage;
use bulkhead_block_layer::task::finish;

use crate::cli::{self, Format};
use crate::create::{Parsed, Preallocation, Target};
use crate::disk::{Disk, Files};
use crate::seal;

/// Bytes that are moved at a time, unless clusters are compressed one by one.
const PIECE: u64 = 2 << 20;

/// Zeroes in pieces of this many bytes are left out.
const SPARSE: usize = 4096;

/// `convert`
pub fn run(options: &cli::Convert) -> Result<ExitCode> {
    let mut parsed = Parsed::read(&options.options)?;
    if options.compress
        && (options.target_format == Format::Raw || parsed.wanted.data_file.is_some())
    {
        bail!("-c needs a qcow2 target without an external data file");
    }
    if parsed.wanted.backing.is_some() {
        bail!("a converted image has no backing file; make an overlay with create -b");
    }
    if options.compress && parsed.preallocation != Preallocation::Off {
        bail!("-c and preallocation exclude each other");
    }
    let files = Files::open(options.format, &options.source, &options.chain, true)?;
    // A target that is the source would be emptied before it is read.
    let same =
        std::fs::canonicalize(&options.target).ok() == std::fs::canonicalize(&options.source).ok();
    if same {
        bail!("{}: it is the source itself", options.target.display());
    }
    let target = Target::make(options.target_format, &options.target, &parsed)?;
    seal::seal()?;
    let source = files.disk(Options::READ)?;
    parsed.wanted.size = source.size().next_multiple_of(512);
    let target = target.fill(&parsed)?;
    let piece = match &target {
        Disk::Qcow2(image) if options.compress => image.cluster_size(),
        _ => PIECE,
    };
    let mut copy = Copy { source: &source, target: &target, piece, options, shown: u64::MAX };
    copy.all()?;
    target.finish()?;
    Ok(ExitCode::SUCCESS)
}

struct Copy<'a> {
    source: &'a Disk,
    target: &'a Disk,
    piece: u64,
    options: &'a cli::Convert,
    /// Percent that stand on the terminal.
    shown: u64,
}

impl Copy<'_> {
    fn all(&mut self) -> Result<()> {
        let size = self.source.size();
        let buffer = Heap::zeroes(self.piece.min(size.max(1)) as usize);
        let mut at = 0;
        while at < size {
            // Pieces keep their places, so that whole clusters are written.
            let end = (at / self.piece + 1) * self.piece;
            let zeroes = self.zeroes(at, size)?;
            if zeroes >= end.min(size) {
                at = if zeroes >= size { size } else { zeroes / self.piece * self.piece };
                continue;
            }
            let len = end.min(size) - at;
            let piece = Memory::from(buffer.clone()).part(0, len);
            let Memory::Heap(piece) = piece else {
                bail!("a piece of the heap is none");
            };
            self.source.read(at, &piece)?;
            self.put(at, &piece)?;
            at += len;
            self.show(at, size);
        }
        if self.options.progress {
            println!("\r    (100.00/100%)");
        }
        Ok(())
    }

    /// Up to where the source is known to read as zeroes from `at` on.
    fn zeroes(&self, at: u64, size: u64) -> Result<u64> {
        let mut end = at;
        while end < size {
            let range = self.source.range(end)?;
            if !range.zero {
                break;
            }
            end += range.length;
        }
        Ok(end)
    }

    fn put(&self, at: u64, piece: &Heap) -> Result<()> {
        if self.options.compress {
            if piece.with(|bytes| bytes.iter().all(|byte| *byte == 0)) {
                return Ok(());
            }
            let Disk::Qcow2(image) = self.target else {
                bail!("only qcow2 images are compressed");
            };
            return Ok(finish(image.write_compressed(at, piece.clone().into()))?);
        }
        for (from, to) in piece.with(|bytes| stretches(bytes)) {
            let part = Memory::from(piece.clone()).part(from as u64, (to - from) as u64);
            match self.target {
                Disk::Raw { file, .. } => finish(file.write(at + from as u64, part))?,
                Disk::Qcow2(image) => finish(image.write(at + from as u64, part))?,
            }
        }
        Ok(())
    }

    fn show(&mut self, at: u64, size: u64) {
        let percent = at * 100 / size.max(1);
        if self.options.progress && percent != self.shown {
            self.shown = percent;
            print!("\r    ({percent}.00/100%)");
            let _ = std::io::stdout().flush();
        }
    }
}

/// The parts of `bytes` that are not zeroes, by pieces of [`SPARSE`].
fn stretches(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (index, chunk) in bytes.chunks(SPARSE).enumerate() {
        if is_zero(chunk) {
            continue;
        }
        let (from, to) = (index * SPARSE, index * SPARSE + chunk.len());
        match found.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => found.push((from, to)),
        }
    }
    found
}

/// Word by word: most of a disk passes here.
fn is_zero(chunk: &[u8]) -> bool {
    let (words, rest) = chunk.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

impl Disk {
    /// Everything that was written is in the files.
    fn finish(&self) -> Result<()> {
        match self {
            Self::Raw { .. } => Ok(()),
            Self::Qcow2(image) => Ok(finish(image.close())?),
        }
    }
}
