//! Entries like those of a block ring: 64 bytes one way, 32 bytes the other.

use bulkhead_ring::Entry;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A request: which, where its data is, and words that follow from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Request {
    pub id: u64,
    pub offset: u64,
    pub len: u64,
    pub rest: [u64; 5],
}

impl Request {
    pub fn new(id: u64, offset: u64, len: u64) -> Self {
        Self { id, offset, len, rest: [1, 2, 3, 4, 5].map(|n| id.wrapping_mul(n)) }
    }

    #[allow(dead_code, reason = "not every test looks inside")]
    pub fn is_whole(&self) -> bool {
        *self == Self::new(self.id, self.offset, self.len)
    }
}

impl Entry for Request {}

/// A completion: which, and words that follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Completion {
    pub id: u64,
    pub rest: [u64; 3],
}

impl Completion {
    #[allow(dead_code, reason = "not every test completes")]
    pub fn new(id: u64) -> Self {
        Self { id, rest: [!id, id ^ 1, id ^ 2] }
    }
}

impl Entry for Completion {}
