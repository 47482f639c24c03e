//! Whose bytes a range of a chain is: what jobs decide by.
//!
//! Not [`range`](crate::qcow2::Qcow2::range), which answers as `qemu-img map` does. Here a layer that is
//! too short to have an opinion has one all the same: it reads as zeroes there and hides what is below.

use super::Layer;
use crate::outcome::Failure;
use crate::qcow2::read::Extent;
use crate::status::Extents;
use crate::storage::Storage;

/// A range that one layer decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes, at least one.
    pub len: u64,
    /// Which layer, counted from the one that was asked; the lowest if nobody has it.
    pub depth: usize,
    /// What it has.
    pub held: Held,
}

/// What a layer has for a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Bytes.
    Data,
    /// Zeroes, and no bytes.
    Zero,
    /// Nothing, and nobody below has anything either: zeroes.
    Nothing,
}

impl Piece {
    /// Whether a layer above the one at depth `base` has it; `None`: any layer.
    pub fn is_above(&self, base: Option<usize>) -> bool {
        self.held != Held::Nothing && base.is_none_or(|base| self.depth < base)
    }
}

impl<S: Storage> Layer<S> {
    /// Where the bytes of a range are, or of its beginning.
    pub async fn status(&self, at: u64, len: u64) -> Result<Extents, Failure> {
        let mut extents = Extents::new();
        let end = at + len;
        let mut next = at;
        while next < end && extents.has_room() {
            let Piece { len, depth, held } = self.piece(next, end - next).await?;
            let depth = if held == Held::Nothing { 0 } else { depth as u32 + 1 };
            let is_hole = held != Held::Data;
            extents.push(len, depth, is_hole, is_hole);
            next += len.max(1);
        }
        Ok(extents)
    }

    /// Whether zeroes in this range are known to be made without writing their bytes.
    pub fn zeroes_fast(&self, at: u64, len: u64) -> bool {
        match self {
            Self::Qcow2(image) => image.zeroes_fast(at, len),
            Self::Raw(_) => false,
            Self::Null(_) => true,
        }
    }

    /// The piece at `at`, of at most `len` bytes. The range lies in the disk.
    pub async fn piece(&self, at: u64, len: u64) -> Result<Piece, Failure> {
        let (mut layer, mut depth, mut len) = (self.clone(), 0, len);
        loop {
            let size = layer.size();
            if at >= size {
                return Ok(Piece { len, depth, held: Held::Zero });
            }
            len = len.min(size - at);
            let extent = match &layer {
                Self::Raw(raw) => {
                    let (zero, len) = raw.storage().reads_zero(raw.start() + at, len).await?;
                    let held = if zero { Held::Zero } else { Held::Data };
                    return Ok(Piece { len: len.max(1), depth, held });
                }
                Self::Null(_) => return Ok(Piece { len, depth, held: Held::Zero }),
                Self::Qcow2(image) => image.whereabouts(at, len).await?,
            };
            len = extent.1;
            let below = match extent.0 {
                Extent::Data { .. } | Extent::Compressed { .. } => {
                    return Ok(Piece { len, depth, held: Held::Data });
                }
                Extent::Zero { .. } => return Ok(Piece { len, depth, held: Held::Zero }),
                Extent::Backing => layer.backing(),
            };
            let Some(below) = below else {
                return Ok(Piece { len, depth, held: Held::Nothing });
            };
            (layer, depth) = (below, depth + 1);
        }
    }
}
