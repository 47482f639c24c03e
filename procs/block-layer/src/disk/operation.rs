//! What is asked of a disk, with the memory it is about.

use std::ops::Range;

use crate::memory::{Heap, Memory};
use crate::outcome::Failure;
use crate::request::{Action, Durability};

/// One request, checked: its range lies in the disk.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Disk → memory.
    Read {
        /// First byte.
        at: u64,
        /// Where the data goes.
        into: Memory,
    },
    /// Memory → disk.
    Write {
        /// First byte.
        at: u64,
        /// Where the data is.
        from: Memory,
        /// What the completion promises.
        durability: Durability,
    },
    /// All completed writes to stable storage.
    Flush,
    /// The range may be deallocated.
    Discard {
        /// First byte.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// The range reads as zeroes.
    Zero {
        /// First byte.
        at: u64,
        /// Bytes.
        len: u64,
        /// Whether it may be deallocated.
        unmap: bool,
    },
    /// Where the bytes of the range are.
    Status {
        /// First byte.
        at: u64,
        /// Bytes.
        len: u64,
        /// Where the answer goes.
        into: Memory,
    },
}

impl Operation {
    /// A ring's request, with its span of the arena.
    pub fn of(action: Action, arena: &bulkhead_ring::Arena) -> Self {
        let memory = |span| Memory::Arena { arena: arena.clone(), span };
        match action {
            Action::Read { at, span } => Self::Read { at, into: memory(span) },
            Action::Write { at, span, durability } => {
                Self::Write { at, from: memory(span), durability }
            }
            Action::Flush => Self::Flush,
            Action::Discard { at, len } => Self::Discard { at, len },
            Action::Zero { at, len, unmap, .. } => Self::Zero { at, len, unmap },
            Action::Status { at, len, span, .. } => Self::Status { at, len, into: memory(span) },
        }
    }

    /// The bytes of the disk that it is about.
    pub fn range(&self) -> Range<u64> {
        match self {
            Self::Read { at, into: memory } | Self::Write { at, from: memory, .. } => {
                *at..*at + memory.len()
            }
            Self::Discard { at, len }
            | Self::Zero { at, len, .. }
            | Self::Status { at, len, .. } => *at..*at + *len,
            Self::Flush => 0..0,
        }
    }

    /// The same with bytes that nobody can change any more.
    pub fn privately(&self) -> Result<Self, Failure> {
        let Self::Write { at, from: from @ Memory::Arena { .. }, durability } = self else {
            return Ok(self.clone());
        };
        let private = Memory::from(Heap::zeroes(from.len() as usize));
        from.copy_into(&private)?;
        Ok(Self::Write { at: *at, from: private, durability: *durability })
    }

    /// Whether the disk may read differently afterwards.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Discard { .. } | Self::Zero { .. })
    }
}
