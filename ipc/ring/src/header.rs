//! The first bytes of a ring's memory object: which ring it says it is.
//!
//! Written once by [`create`](crate::create). The ends compare it with their plan and use nothing of
//! it: it is there so that a mix-up (an old incarnation, another size, another version) is found when
//! the ring is mapped and not when data is wrong.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::geometry::RingGeometry;

/// "BLKHRING" as a little-endian number.
const MAGIC: u64 = u64::from_le_bytes(*b"BLKHRING");

/// Changes with the layout, the indices' meaning or the slots' length.
const VERSION: u32 = 1;

/// The header, 32 bytes at offset 0, in the host's byte order (both ends run on one host).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    magic: u64,
    version: u32,
    entries: u32,
    arena_len: u64,
    incarnation: u64,
}

/// The header is not the planned one. The supervisor made it right, so the peer spoilt it, or the
/// plan names another ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Not a ring at all.
    #[error("the memory object is no ring (magic {0:#018x})")]
    Magic(u64),
    /// A ring of another version of this code.
    #[error("ring version {found}, {VERSION} was expected")]
    Version {
        /// What the header says.
        found: u32,
    },
    /// A ring of another size.
    #[error(
        "a ring of {entries} entries and {arena_len:#x} bytes of arena where {planned:?} was planned"
    )]
    Geometry {
        /// Entries according to the header.
        entries: u32,
        /// Arena length according to the header.
        arena_len: u64,
        /// What the plan says.
        planned: RingGeometry,
    },
    /// A ring of another incarnation: a stale descriptor.
    #[error("ring of incarnation {found}, {planned} was planned")]
    Incarnation {
        /// What the header says.
        found: u64,
        /// What the plan says.
        planned: u64,
    },
}

impl Header {
    /// The header of a new ring.
    pub fn new(geometry: RingGeometry, incarnation: u64) -> Self {
        let (entries, arena_len) = (geometry.entries(), geometry.arena_len());
        Self { magic: MAGIC, version: VERSION, entries, arena_len, incarnation }
    }

    /// Takes the bytes for what they say; [`expect`](Self::expect) judges them.
    pub fn decode(bytes: [u8; size_of::<Header>()]) -> Self {
        zerocopy::transmute!(bytes)
    }

    /// The bytes to write at offset 0.
    pub fn encode(self) -> [u8; size_of::<Header>()] {
        zerocopy::transmute!(self)
    }

    /// Compares with the plan.
    pub fn expect(self, geometry: RingGeometry, incarnation: u64) -> Result<(), HeaderFault> {
        if self.magic != MAGIC {
            return Err(HeaderFault::Magic(self.magic));
        }
        if self.version != VERSION {
            return Err(HeaderFault::Version { found: self.version });
        }
        if (self.entries, self.arena_len) != (geometry.entries(), geometry.arena_len()) {
            let (entries, arena_len) = (self.entries, self.arena_len);
            return Err(HeaderFault::Geometry { entries, arena_len, planned: geometry });
        }
        if self.incarnation != incarnation {
            return Err(HeaderFault::Incarnation { found: self.incarnation, planned: incarnation });
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
