//! A part of what is read becomes a part of what is written. What reads as zeroes is not written, unless
//! the target may hold something else there.

use anyhow::{Result, bail};
use bulkhead_block_layer::memory::{Heap, Memory};

use super::disk::Disk;
use super::joined::Joined;
use super::pack::{Hands, Packers};

/// Bytes that are moved at a time, unless clusters are compressed one by one.
const PIECE: u64 = 2 << 20;

/// Zeroes in pieces of this many bytes are left out, as qemu-img does by default.
pub const SPARSE: u64 = 4096;

/// What is copied.
#[derive(Debug)]
pub struct Copy<'a> {
    /// What is read.
    pub source: &'a Joined,
    /// The part's first byte, which is the target's first.
    pub begin: u64,
    /// Bytes.
    pub len: u64,
    /// What is written.
    pub target: &'a Disk,
    /// Zeroes in pieces of so many bytes are found among data; 0: everything is written as it is.
    pub sparse: u64,
    /// The target may read as something else than zeroes.
    pub used: bool,
}

/// Who is told how far it is.
pub type Tell<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

impl Copy<'_> {
    /// Does it, as the bytes are.
    pub fn all(&self, tell: Tell<'_>) -> Result<()> {
        self.each(PIECE, tell, |at, piece| self.put(at, piece))
    }

    /// Does it, each cluster compressed.
    pub fn compressed(&self, hands: Hands, tell: Tell<'_>) -> Result<()> {
        let Disk::Qcow2(image) = self.target else {
            bail!("only qcow2 images are compressed");
        };
        Packers::run(image, hands, |packers| {
            self.each(image.cluster_size(), tell, |at, piece| {
                match self.sparse > 0 && piece.with(|bytes| is_zero(bytes)) {
                    true => self.clear(at, piece.len() as u64),
                    false => packers.put(at, piece.to_vec()),
                }
            })
        })
    }

    /// Calls `put` for each piece that may hold something else than zeroes, with its place in the target.
    fn each(
        &self,
        piece: u64,
        tell: Tell<'_>,
        mut put: impl FnMut(u64, &Heap) -> Result<()>,
    ) -> Result<()> {
        let size = self.len;
        let buffer = Memory::from(Heap::zeroes(piece.min(size.max(1)) as usize));
        let mut at = 0;
        while at < size {
            // Pieces keep their places, so that whole clusters are written.
            let end = ((at / piece + 1) * piece).min(size);
            let len = end - at;
            if self.sparse > 0 && self.is_known_zero(at, end)? {
                self.clear(at, len)?;
            } else {
                let Memory::Heap(part) = buffer.part(0, len) else {
                    bail!("a piece of the heap is none");
                };
                self.source.read(self.begin + at, &part.clone().into())?;
                put(at, &part)?;
            }
            at = end;
            tell(at)?;
        }
        tell(size)
    }

    /// Whether the source says of all from `at` to `end` that it reads as zeroes.
    fn is_known_zero(&self, mut at: u64, end: u64) -> Result<bool> {
        while at < end {
            let (zero, length) = self.source.stretch(self.begin + at, end - at)?;
            if !zero {
                return Ok(false);
            }
            at += length;
        }
        Ok(true)
    }

    fn clear(&self, at: u64, len: u64) -> Result<()> {
        match self.used && len > 0 {
            true => Ok(self.target.zero(at, len)?),
            false => Ok(()),
        }
    }

    fn put(&self, at: u64, piece: &Heap) -> Result<()> {
        let whole = || vec![(0, piece.len())];
        let parts = match self.sparse.min(PIECE) as usize {
            0 => whole(),
            sparse => piece.with(|bytes| stretches(bytes, sparse)),
        };
        let mut behind = 0;
        for (from, to) in parts {
            self.clear(at + behind as u64, (from - behind) as u64)?;
            let part = Memory::from(piece.clone()).part(from as u64, (to - from) as u64);
            self.target.write(at + from as u64, part)?;
            behind = to;
        }
        self.clear(at + behind as u64, (piece.len() - behind) as u64)
    }
}

/// The parts of `bytes` that are not zeroes, by pieces of `sparse`.
fn stretches(bytes: &[u8], sparse: usize) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (index, chunk) in bytes.chunks(sparse).enumerate() {
        if is_zero(chunk) {
            continue;
        }
        let (from, to) = (index * sparse, index * sparse + chunk.len());
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
