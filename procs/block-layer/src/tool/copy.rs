//! A part of what is read becomes a part of what is written. What reads as zeroes is not written, unless
//! the target may hold something else there.
//!
//! Several pieces are on their way at a time ([`course`](super::course)), or one cluster after the other is
//! compressed.

use std::iter::once;
use std::ops::Range;
use std::rc::Rc;

use anyhow::{Result, bail};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::outcome::{Failure, Outcome};
use bulkhead_block_layer::task::finish;

use super::disk::Disk;
use super::hands::Hands;
use super::joined::Joined;
use super::pack::Packers;

/// Zeroes in pieces of this many bytes are left out, as qemu-img does by default.
pub const SPARSE: u64 = 4096;

/// What is copied.
#[derive(Debug)]
pub struct Copy {
    /// What is read.
    pub source: Rc<Joined>,
    /// The part's first byte, which is the target's first.
    pub begin: u64,
    /// Bytes.
    pub len: u64,
    /// What is written.
    pub target: Rc<Disk>,
    /// Zeroes in pieces of so many bytes are found among data; 0: everything is written as it is.
    pub sparse: u64,
    /// The target may read as something else than zeroes.
    pub used: bool,
}

impl Copy {
    /// Does it, each cluster compressed.
    pub fn compressed(&self, hands: &Hands, mut tell: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let Disk::Qcow2(image) = &*self.target else {
            bail!("only qcow2 images are compressed");
        };
        let cluster = image.cluster_size();
        let buffer = Memory::from(Heap::zeroes(cluster.min(self.len) as usize));
        Packers::run(image, hands, |packers| {
            let mut at = 0;
            while at < self.len {
                let piece = buffer.part(0, self.len - at);
                if finish(self.read(at, &piece))? {
                    let mut bytes = vec![0; piece.len() as usize];
                    piece.copy_to(&mut bytes)?;
                    packers.put(at, bytes)?;
                } else {
                    finish(self.clear(at, piece.len()))?;
                }
                at += piece.len();
                tell(at)?;
            }
            Ok(())
        })
    }

    /// Reads a whole piece, unless it is nothing but zeroes that need not be written: `false`.
    async fn read(&self, at: u64, piece: &Memory) -> Result<bool, Failure> {
        if self.spans(at, piece.len()).await?.is_empty() {
            return Ok(false);
        }
        self.source.read(self.begin + at, piece).await?;
        Ok(self.sparse == 0 || !piece.is_zero()?)
    }

    /// The parts of `len` bytes at `at` of which the source does not say that they read as zeroes.
    pub async fn spans(&self, at: u64, len: u64) -> Result<Vec<Range<u64>>, Failure> {
        let end = at + len;
        if self.sparse == 0 {
            return Ok(once(at..end).collect());
        }
        let (mut spans, mut next) = (Vec::new(), at);
        while next < end {
            let (zero, length) = self.source.stretch(self.begin + next, end - next).await?;
            if !zero {
                join(&mut spans, next..next + length);
            }
            next += length;
        }
        Ok(spans)
    }

    /// Reads a part, and says which parts of it are to be written, by their places in the target.
    pub async fn take(&self, at: u64, part: &Memory) -> Result<Vec<Range<u64>>, Failure> {
        self.source.read(self.begin + at, part).await?;
        let Memory::Heap(heap) = part else {
            return Err(Failure::INVALID);
        };
        Ok(match self.sparse {
            0 => once(at..at + part.len()).collect(),
            sparse => heap.with(|bytes| stretches(bytes, at, sparse)),
        })
    }

    /// Makes a part of the target read as zeroes.
    pub async fn clear(&self, at: u64, len: u64) -> Outcome {
        match self.used && len > 0 {
            true => self.target.zero(at, len).await,
            false => Ok(()),
        }
    }
}

/// The parts of `bytes`, which are for the target's byte `at`, that are not zeroes: by pieces of `sparse`,
/// wherever they begin.
fn stretches(bytes: &[u8], at: u64, sparse: u64) -> Vec<Range<u64>> {
    let (mut found, mut from) = (Vec::new(), at);
    let end = at + bytes.len() as u64;
    while from < end {
        let to = (from - from % sparse).saturating_add(sparse).min(end);
        if !is_zero(&bytes[(from - at) as usize..(to - at) as usize]) {
            join(&mut found, from..to);
        }
        from = to;
    }
    found
}

/// Adds a range that lies behind all others.
pub fn join(ranges: &mut Vec<Range<u64>>, next: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => ranges.push(next),
    }
}

/// Word by word: most of a disk passes here.
fn is_zero(chunk: &[u8]) -> bool {
    let (words, rest) = chunk.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_zeroes_are_found_where_they_begin_in_the_target() {
        let found = |bytes: &[u8], at, sparse| -> Vec<(u64, u64)> {
            let found = stretches(bytes, at, sparse);
            found.into_iter().map(|range| (range.start, range.end)).collect()
        };
        let mut bytes = vec![0; 3 * 4096];
        bytes[4096] = 1;
        assert_eq!(found(&bytes, 0, 4096), [(4096, 8192)]);
        // By the target's pieces, not by those of what is given.
        assert_eq!(found(&bytes, 8191, 4096), [(8192, 12288)]);
        bytes.fill(1);
        assert_eq!(found(&bytes, 512, 1024), [(512, 512 + 12288)]);
        assert_eq!(found(&[0; 512], 0, 512), []);
    }
}
