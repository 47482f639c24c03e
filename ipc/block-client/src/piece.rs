//! A part of a request, before and after it was out.

use bulkhead_protocol::block_ring::{Operation, STATUS_SPAN};
use bulkhead_ring::ArenaSpan;

/// A part of a request that fits one ring request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<W> {
    /// Whose part it is, and which.
    pub whose: W,
    /// What to do.
    pub operation: Operation,
    /// `FLAG_…` of the block ring.
    pub flags: u8,
    /// First byte of the disk.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

impl<W> Piece<W> {
    /// Bytes of the arena that it needs.
    pub fn span(&self) -> u64 {
        match self.operation {
            Operation::Read | Operation::Write => self.len.into(),
            Operation::Status => STATUS_SPAN.into(),
            _ => 0,
        }
    }
}

/// A piece that is over, with its span, which is to be [released](crate::Link::release).
#[derive(Debug)]
pub struct Done<W> {
    /// Which.
    pub piece: Piece<W>,
    /// Where its data is.
    pub span: Option<ArenaSpan>,
    /// How it ended: 0, or the errno.
    pub status: u32,
}

/// A piece that was out when block-layer was replaced. Its span is its still.
#[derive(Debug)]
pub struct Unfinished<W> {
    /// Which.
    pub piece: Piece<W>,
    /// Where its data is.
    pub span: Option<ArenaSpan>,
    /// Deaths of block-layer by its own fault that it was part of, as its owner counts them.
    pub attempts: u8,
}
