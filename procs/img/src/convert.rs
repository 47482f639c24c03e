//! `convert`: a disk's bytes into a fresh image. What reads as zeroes is not written.
//!
//! Compressing is most of the work where it is asked for, so threads do it ([`pack`](crate::pack)); the
//! clusters are written in their order all the same, so that the image is the same however many there are.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::qcow2::Options;
use bulkhead_block_layer::storage::Storage;
use bulkhead_block_layer::task::finish;

use crate::cli::{self, Format};
use crate::create::{Parsed, Preallocation, Target};
use crate::disk::{Disk, Files};
use crate::pack::Packers;
use crate::progress::Progress;
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
    let size = source.size();
    let mut copy = Copy::new(&source, &target, 0, size, Progress::new(options.progress));
    if options.compress {
        copy.compressed(options.threads)?;
    } else {
        copy.all()?;
    }
    target.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// A part of one disk becomes the whole of another.
pub struct Copy<'a> {
    source: &'a Disk,
    target: &'a Disk,
    /// The part's first byte, which is the target's.
    begin: u64,
    len: u64,
    progress: Progress,
}

impl<'a> Copy<'a> {
    /// Copies `len` bytes from `begin` on.
    pub fn new(
        source: &'a Disk,
        target: &'a Disk,
        begin: u64,
        len: u64,
        progress: Progress,
    ) -> Self {
        Self { source, target, begin, len, progress }
    }

    /// Does it, as the bytes are.
    pub fn all(&mut self) -> Result<()> {
        self.each(PIECE, |copy, at, piece| copy.put(at, piece))
    }

    /// Does it, each cluster compressed, by so many threads.
    pub fn compressed(&mut self, threads: Option<usize>) -> Result<()> {
        let Disk::Qcow2(image) = self.target else {
            bail!("only qcow2 images are compressed");
        };
        Packers::run(image, threads, |packers| {
            self.each(image.cluster_size(), |_, at, piece| {
                if piece.with(|bytes| is_zero(bytes)) {
                    return Ok(());
                }
                packers.put(at, piece.to_vec())
            })
        })
    }

    /// Calls `put` for each piece that may hold something else than zeroes, with its place in the target.
    fn each(
        &mut self,
        piece: u64,
        mut put: impl FnMut(&mut Self, u64, &Heap) -> Result<()>,
    ) -> Result<()> {
        let size = self.len;
        let buffer = Heap::zeroes(piece.min(size.max(1)) as usize);
        let mut at = 0;
        while at < size {
            // Pieces keep their places, so that whole clusters are written.
            let end = (at / piece + 1) * piece;
            let zeroes = self.zeroes(at, end.min(size))?;
            if zeroes >= end.min(size) {
                at = end.min(size);
                continue;
            }
            let len = end.min(size) - at;
            let part = Memory::from(buffer.clone()).part(0, len);
            let Memory::Heap(part) = part else {
                bail!("a piece of the heap is none");
            };
            self.source.read(self.begin + at, &part)?;
            put(self, at, &part)?;
            at += len;
            self.progress.show(at, size);
        }
        self.progress.end();
        Ok(())
    }

    /// Up to where the source is known to read as zeroes from `at` on, `end` at most.
    fn zeroes(&self, at: u64, end: u64) -> Result<u64> {
        let mut zeroes = at;
        while zeroes < end {
            let range = self.source.range_within(self.begin + zeroes, end - zeroes)?;
            if !range.zero {
                break;
            }
            zeroes += range.length;
        }
        Ok(zeroes)
    }

    fn put(&mut self, at: u64, piece: &Heap) -> Result<()> {
        for (from, to) in piece.with(|bytes| stretches(bytes)) {
            let part = Memory::from(piece.clone()).part(from as u64, (to - from) as u64);
            match self.target {
                Disk::Raw { file, .. } => finish(file.write(at + from as u64, part))?,
                Disk::Qcow2(image) => finish(image.write(at + from as u64, part))?,
            }
        }
        Ok(())
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
