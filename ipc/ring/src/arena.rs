//! The data area that the two ends of a ring share.
//!
//! A request names its data as offset and length: an allegation. [`Arena::check`] makes an
//! [`ArenaSlice`] of it, which copies, or names the bytes to `bulkhead_sys::file` for positioned
//! I/O without a copy. The peer may write the same bytes at any time; whoever must not be
//! misled by that copies first.

use std::sync::Arc;

use bulkhead_sys::mapping::SharedMapping;

use crate::geometry::RingGeometry;

/// The range does not lie in the arena. Whoever alleged it (Peer) is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len:#x} bytes at offset {offset:#x} do not lie in an arena of {size:#x} bytes")]
pub struct OutOfArena {
    /// First byte asked for.
    pub offset: u64,
    /// Bytes asked for.
    pub len: u64,
    /// Bytes there are.
    pub size: u64,
}

/// The arena as one end sees it. Clones share the mapping: a worker thread that is in the middle of
/// an I/O keeps it mapped by holding one.
///
/// Invariant: `base + len` is at most the mapping's length.
#[derive(Debug, Clone)]
pub struct Arena {
    mapping: Arc<SharedMapping>,
    base: usize,
    len: usize,
}

impl Arena {
    pub(crate) fn new(mapping: Arc<SharedMapping>, geometry: RingGeometry) -> Self {
        let base = geometry.arena_at();
        let len = mapping.len().saturating_sub(base).min(geometry.arena_len() as usize);
        Self { mapping, base, len }
    }

    /// The mapping, for whoever must keep it until the kernel is done with it.
    pub fn shared_mapping(&self) -> &Arc<SharedMapping> {
        &self.mapping
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Whether this pair of rings carries no data.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Turns an allegation into a proof: `len` bytes at `offset` of the arena.
    #[inline]
    pub fn check(&self, offset: u64, len: u64) -> Result<ArenaSlice<'_>, OutOfArena> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len as u64 => Ok(ArenaSlice {
                mapping: &self.mapping,
                offset: self.base + offset as usize,
                len: len as usize,
            }),
            _ => Err(OutOfArena { offset, len, size: self.len as u64 }),
        }
    }
}

/// A checked part of the arena.
///
/// Invariant: `offset + len` is at most the mapping's length, and all of it is in the arena.
#[derive(Debug, Clone, Copy)]
pub struct ArenaSlice<'a> {
    mapping: &'a SharedMapping,
    offset: usize,
    len: usize,
}

impl<'a> ArenaSlice<'a> {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part of `len` bytes at `offset` of this one.
    #[inline]
    pub fn subslice(&self, offset: usize, len: usize) -> Result<ArenaSlice<'a>, OutOfArena> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => {
                Ok(ArenaSlice { mapping: self.mapping, offset: self.offset + offset, len })
            }
            _ => Err(self.outside(offset, len)),
        }
    }

    /// Copies the first `to.len()` bytes out of the arena into private memory.
    #[inline]
    pub fn copy_in(&self, to: &mut [u8]) -> Result<(), OutOfArena> {
        let part = self.subslice(0, to.len())?;
        self.mapping.copy_in(part.offset, to).map_err(|_| self.outside(0, part.len))
    }

    /// Copies `from` into the arena, to the first `from.len()` bytes.
    #[inline]
    pub fn copy_out(&self, from: &[u8]) -> Result<(), OutOfArena> {
        let part = self.subslice(0, from.len())?;
        self.mapping.copy_out(part.offset, from).map_err(|_| self.outside(0, part.len))
    }

    /// Writes zeroes over all of it.
    pub fn zero(&self) -> Result<(), OutOfArena> {
        self.mapping.zero(self.offset, self.len).map_err(|_| self.outside(0, self.len))
    }

    /// The mapping in which it lies, with [`offset`](Self::offset) and [`len`](Self::len) the
    /// operands for `bulkhead_sys::file` and for copies from and to guest memory.
    pub fn mapping(&self) -> &'a SharedMapping {
        self.mapping
    }

    /// Offset of the first byte in [`mapping`](Self::mapping) (not in the arena).
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Address of the first byte, valid for [`len`](Self::len) bytes while the arena lives. For system
    /// calls only: a reference made from it would be unsound.
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.as_ptr().wrapping_add(self.offset)
    }

    fn outside(&self, offset: usize, len: usize) -> OutOfArena {
        OutOfArena { offset: offset as u64, len: len as u64, size: self.len as u64 }
    }
}

#[cfg(test)]
mod tests;
