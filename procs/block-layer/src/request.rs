//! From allegation to proof: what a ring says, and what may be done.
//!
//! Called by lanes for every entry they take. A [`Request`] exists only if its range lies in the image
//! and its span in the arena; whatever handles it afterwards checks neither again.

use bulkhead_protocol::block_ring::{
    BlockRequest, FLAG_DIRTY, FLAG_FAST, FLAG_FUA, MAX_TRANSFER, Operation, STATUS_SPAN,
};

use crate::outcome::Failure;

/// Longest discard, write-zeroes or status in bytes.
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
        /// Faster than writing them, or not at all.
        fast: bool,
    },
    /// Where the bytes of the range are: extents → arena.
    Status {
        /// First byte in the image.
        at: u64,
        /// Length.
        len: u64,
        /// Where the extents go.
        span: Span,
        /// What is dirty is wanted as well.
        dirty: bool,
    },
}

impl Action {
    /// Bytes that it transfers.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Read { span, .. } | Self::Write { span, .. } | Self::Status { span, .. } => {
                span.len.into()
            }
            Self::Flush | Self::Discard { .. } | Self::Zero { .. } => 0,
        }
    }

    /// The same, `by` bytes further on. Both lie in a file, so the sum is one of its places.
    #[inline]
    pub fn moved(self, by: u64) -> Self {
        match self {
            Self::Read { at, span } => Self::Read { at: at + by, span },
            Self::Write { at, span, durability } => Self::Write { at: at + by, span, durability },
            Self::Flush => Self::Flush,
            Self::Discard { at, len } => Self::Discard { at: at + by, len },
            Self::Zero { at, len, unmap, fast } => Self::Zero { at: at + by, len, unmap, fast },
            Self::Status { at, len, span, dirty } => Self::Status { at: at + by, len, span, dirty },
        }
    }
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
        let zeroes = matches!(operation, Operation::WriteZeroes | Operation::WriteZeroesUnmap);
        let flags = match operation {
            Operation::Status => FLAG_FUA | FLAG_DIRTY,
            _ if zeroes => FLAG_FUA | FLAG_FAST,
            _ => FLAG_FUA,
        };
        if alleged.reserved != [0; 6] || alleged.flags & !flags != 0 {
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
                fast: alleged.flags & FLAG_FAST != 0,
            },
            Operation::Status => {
                let (len, span) = (self.range(alleged)?, self.page(alleged.span)?);
                Action::Status { at, len, span, dirty: alleged.flags & FLAG_DIRTY != 0 }
            }
        };
        let changes =
            !matches!(action, Action::Read { .. } | Action::Status { .. } | Action::Flush);
        if self.read_only && changes {
            return Err(Failure::READ_ONLY);
        }
        Ok(Request { tag: alleged.tag, action })
    }

    fn transfer(&self, alleged: &BlockRequest) -> Result<Span, Failure> {
        let BlockRequest { span, len, .. } = *alleged;
        self.in_image(alleged.offset, len)?;
        match len > MAX_TRANSFER {
            true => Err(Failure::INVALID),
            false => self.in_arena(span, len),
        }
    }

    fn page(&self, span: u32) -> Result<Span, Failure> {
        self.in_arena(span, STATUS_SPAN)
    }

    fn in_arena(&self, span: u32, len: u32) -> Result<Span, Failure> {
        let end = u64::from(span) + u64::from(len);
        let whole = u64::from(span).is_multiple_of(SECTOR);
        match end <= self.arena && whole {
            true => Ok(Span { offset: span, len }),
            false => Err(Failure::INVALID),
        }
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
