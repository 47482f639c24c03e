//! The entries on a block ring: requests from a vhost-blk or an NBD server, completions from the
//! block layer.
//!
//! A request owns a contiguous span of the arena until its completion; a transfer that does not fit
//! one span is several requests. Offsets and lengths are bytes and multiples of 512. Requests may
//! complete in any order; a client that needs order waits.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest read or write of one request in bytes.
pub const MAX_TRANSFER: u32 = 1 << 20;

/// What a request does; [`BlockRequest::operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Image → arena.
    Read,
    /// Arena → image.
    Write,
    /// All completed writes to stable storage.
    Flush,
    /// The range may be deallocated; it reads as zeroes or as before.
    Discard,
    /// The range reads as zeroes and may be deallocated.
    WriteZeroesUnmap,
    /// The range reads as zeroes and stays allocated where the host can.
    WriteZeroes,
    /// Where the bytes of the range are: [`StatusExtent`]s → arena.
    Status,
}

impl Operation {
    /// Its number on the ring.
    pub const fn code(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Flush => 2,
            Self::Discard => 3,
            Self::WriteZeroesUnmap => 4,
            Self::WriteZeroes => 5,
            Self::Status => 6,
        }
    }

    /// The operation of that number.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Flush,
            3 => Self::Discard,
            4 => Self::WriteZeroesUnmap,
            5 => Self::WriteZeroes,
            6 => Self::Status,
            _ => return None,
        })
    }
}

/// A submission: 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockRequest {
    /// The client's tag, returned in the completion.
    pub tag: u64,
    /// First byte in the image.
    pub offset: u64,
    /// First byte of the span in the arena (read, write; status: of [`STATUS_SPAN`] bytes).
    pub span: u32,
    /// Bytes: at most [`MAX_TRANSFER`] for read and write, any multiple of 512 for discard, zeroes and
    /// status up to 2³¹, 0 for flush.
    pub len: u32,
    /// [`Operation::code`].
    pub operation: u8,
    /// Bit 0: on stable storage before completion (FUA). Bit 1: [`FLAG_FAST`]. Bit 2: [`FLAG_DIRTY`].
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

/// [`BlockRequest::flags`]: forced unit access.
pub const FLAG_FUA: u8 = 1;

/// [`BlockRequest::flags`] of a write-zeroes: faster than writing them, or EOPNOTSUPP.
pub const FLAG_FAST: u8 = 2;

/// [`BlockRequest::flags`] of a status: [`STATUS_DIRTY`] is wanted as well, by the bitmap that the export was
/// given.
pub const FLAG_DIRTY: u8 = 4;

/// Bytes in the arena that a status request owns: room for [`STATUS_MOST`] extents. The first with a
/// length of 0 ends them.
pub const STATUS_SPAN: u32 = 4096;

/// Most extents in one answer. They begin at the request's offset, follow each other, and may end before
/// its range does, but not at its beginning.
pub const STATUS_MOST: usize = STATUS_SPAN as usize / size_of::<StatusExtent>();

/// A range of one kind: 16 bytes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct StatusExtent {
    /// Bytes.
    pub len: u64,
    /// Which layer of a chain has it: 1 the image itself, 2 its backing file, …; 0: none.
    pub depth: u32,
    /// [`STATUS_HOLE`], [`STATUS_ZERO`], [`STATUS_DIRTY`].
    pub flags: u32,
}

/// [`StatusExtent::flags`]: it takes no room.
pub const STATUS_HOLE: u32 = 1;

/// [`StatusExtent::flags`]: it reads as zeroes.
pub const STATUS_ZERO: u32 = 2;

/// [`StatusExtent::flags`]: a bitmap says that it was written.
pub const STATUS_DIRTY: u32 = 4;

impl BlockRequest {
    /// The operation, if the code is one.
    pub const fn operation(&self) -> Option<Operation> {
        Operation::from_code(self.operation)
    }
}

/// A completion: 32 bytes, as the ring's slots are of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockCompletion {
    /// The request's tag.
    pub tag: u64,
    /// 0, or the positive errno of the failure (EIO, ENOSPC, EPERM, EINVAL).
    pub status: u32,
    /// Zero.
    pub reserved: [u32; 5],
}

impl bulkhead_ring::Entry for BlockRequest {}
impl bulkhead_ring::Entry for BlockCompletion {}
