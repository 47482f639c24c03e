//! What a guest says: so many bytes at such an address. Nothing in it is believed.

use std::fmt;

/// An allegation about guest memory. Turn it into a [`GuestSlice`](crate::GuestSlice) with
/// [`GuestMemory::check`](crate::GuestMemory::check) before use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GuestRange {
    /// Guest-physical address of the first byte.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
}

impl GuestRange {
    /// `len` bytes at `addr`.
    pub const fn new(addr: u64, len: u64) -> Self {
        Self { addr, len }
    }
}

impl fmt::Display for GuestRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} bytes at guest address {:#x}", self.len, self.addr)
    }
}

/// The range does not lie within one region of guest memory. The guest is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{range} do not lie in one region of guest memory ({available:#x} bytes do)")]
pub struct OutOfRange {
    /// What was alleged.
    pub range: GuestRange,
    /// How many of these bytes there are before the region ends; 0 if the first is in none.
    pub available: u64,
}
