//! From allegation to proof: what a ring says, and what may be done.
//!
//! Called by lanes for every entry they take. A [`Request`] exists only if its range lies in the image
//! and its span in the arena; whatever handles it afterwards checks neither again.

use bulkhead_protocol::block_ring::{BlockRequest, FLAG_FUA, MAX_TRANSFER, Operation};

use crate::outcome::Failure;

/// Longest discard or write-zeroes in bytes.
const LONGEST_RANGE: u32 = 1 << 31;

/// Sector of the block ring: offsets, lengths and spans are multiples of it.
const SECTOR: u64 = 512;

/// A checked request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What the requester calls it.
    pub tag: u64,
    /// What is to be done.
    pub action: Action,
}

/// What is to be done. Bytes throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Image → arena.
    Read {
        /// First byte in the image.
        at: u64,
        /// Where the data goes.
        span: Span,
    },
    /// Arena → image.
    Write {
        /// First byte in the image.
        at: u64,
        /// Where the data is.
        span: Span,
        /// What the completion promises.
        durability: Durability,
    },
    /// All completed writes to stable storage.
    Flush,
    /// The range may be deallocated.
    Discard {
        /// First byte in the image.
        at: u64,
        /// Length.
        len: u64,
    },
    /// The range reads as zeroes.
    Zero {
        /// First byte in the image.
        at: u64,
        /// Length.
        len: u64,
        /// Whether it may be deallocated.
        unmap: bool,
    },
}

/// What the completion of a write promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Reads see it.
    Visible,
    /// It is on stable storage (FUA).
    Fua,
}

/// A range of the arena, inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub offset: u32,
    /// Length.
    pub len: u32,
}

/// What a request is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the image.
    pub size: u64,
    /// Smallest unit of the image in bytes, a power of two, at least 512.
    pub block: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Discard is an operation of this disk.
    pub discard: bool,
    /// Bytes of the arena.
    pub arena: u64,
}

impl Limits {
    /// Checks one entry.
    #[inline]
    pub fn check(&self, alleged: &BlockRequest) -> Result<Request, Failure> {
        let operation = alleged.operation().ok_or(Failure::INVALID)?;
        if alleged.reserved != [0; 6] || alleged.flags & !FLAG_FUA != 0 {
            return Err(Failure::INVALID);
        }
        let fua = alleged.flags & FLAG_FUA != 0;
        let at = alleged.offset;
        let action = match operation {
            Operation::Read => Action::Read { at, span: self.transfer(alleged)? },
            Operation::Write => Action::Write {
                at,
                span: self.transfer(alleged)?,
                durability: if fua { Durability::Fua } else { Durability::Visible },
            },
            Operation::Flush if alleged.len != 0 => return Err(Failure::INVALID),
            Operation::Flush => Action::Flush,
            Operation::Discard if !self.discard => return Err(Failure::UNSUPPORTED),
            Operation::Discard => Action::Discard { at, len: self.range(alleged)? },
            Operation::WriteZeroes | Operation::WriteZeroesUnmap => Action::Zero {
                at,
                len: self.range(alleged)?,
                unmap: self.discard && operation == Operation::WriteZeroesUnmap,
            },
        };
        if self.read_only && !matches!(action, Action::Read { .. } | Action::Flush) {
            return Err(Failure::READ_ONLY);
        }
        Ok(Request { tag: alleged.tag, action })
    }

    fn transfer(&self, alleged: &BlockRequest) -> Result<Span, Failure> {
        let BlockRequest { span, len, .. } = *alleged;
        self.in_image(alleged.offset, len)?;
        let end = u64::from(span) + u64::from(len);
        let whole = u64::from(span).is_multiple_of(SECTOR);
        if len > MAX_TRANSFER || end > self.arena || !whole {
            return Err(Failure::INVALID);
        }
        Ok(Span { offset: span, len })
    }

    fn range(&self, alleged: &BlockRequest) -> Result<u64, Failure> {
        self.in_image(alleged.offset, alleged.len)?;
        if alleged.len > LONGEST_RANGE {
            return Err(Failure::INVALID);
        }
        Ok(u64::from(alleged.len))
    }

    fn in_image(&self, at: u64, len: u32) -> Result<(), Failure> {
        let block = u64::from(self.block);
        let len = u64::from(len);
        let end = at.checked_add(len).ok_or(Failure::INVALID)?;
        let whole = at.is_multiple_of(block) && len.is_multiple_of(block);
        match len > 0 && end <= self.size && whole {
            true => Ok(()),
            false => Err(Failure::INVALID),
        }
    }
}

#[cfg(test)]
mod tests;
