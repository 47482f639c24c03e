//! How big a ring is, and where its parts lie in the memory object.
//!
//! Both ends compute the layout from the geometry in their plan; the object is never asked.

/// Most entries a ring may have; a client's table of outstanding requests is as long.
const MOST_ENTRIES: u32 = 4096;

/// Longest arena, 64 MiB: what a client could pin in page tables and page cache of both processes.
const LONGEST_ARENA: u64 = 64 << 20;

/// A page in bytes: the arena begins and ends on one, and it is the unit of allocation.
pub const PAGE: u64 = 4096;

/// Each slot has a cache line, whatever its entry's size: a slot being filled does not slow down the
/// reading of its neighbour.
pub(crate) const SLOT_LEN: usize = 64;

/// Distance between two words that different sides write: two cache lines, since the prefetcher of
/// x86 fetches lines in pairs.
const LINE: usize = 128;

/// Offset of the first slot: the header's line and room for 15 more words.
const SLOTS_AT: usize = 16 * LINE;

/// Offset of the CPU number that the client leaves for the server.
pub(crate) const CLIENT_CPU_AT: usize = 7 * LINE;

/// Offset of the CPU number that the server leaves for the client.
pub(crate) const SERVER_CPU_AT: usize = 8 * LINE;

/// A size that a ring cannot have. The plan is to blame (Bug).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// Not a power of two from 2 to 4096.
    #[error("{0} entries: a ring has a power of two from 2 to {MOST_ENTRIES}")]
    Entries(u32),
    /// Not a multiple of 4096 up to 64 MiB.
    #[error("an arena of {0} bytes: it has a multiple of {PAGE} up to {LONGEST_ARENA}")]
    ArenaLen(u64),
}

/// The checked size of a pair of rings and their arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingGeometry {
    entries: u32,
    arena_len: u64,
}

impl RingGeometry {
    /// `entries` in each ring: a power of two from 2 to 4096. `arena_len` in bytes: a multiple of
    /// 4096 up to 64 MiB; 0 for rings whose requests carry no data.
    pub const fn new(entries: u32, arena_len: u64) -> Result<Self, GeometryError> {
        if !entries.is_power_of_two() || entries < 2 || entries > MOST_ENTRIES {
            return Err(GeometryError::Entries(entries));
        }
        if !arena_len.is_multiple_of(PAGE) || arena_len > LONGEST_ARENA {
            return Err(GeometryError::ArenaLen(arena_len));
        }
        Ok(Self { entries, arena_len })
    }

    /// Slots in each of the two rings, and most requests a client may have outstanding.
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// Length of the arena in bytes.
    pub const fn arena_len(&self) -> u64 {
        self.arena_len
    }

    /// Length of the whole memory object in bytes.
    pub const fn object_len(&self) -> u64 {
        self.arena_at() as u64 + self.arena_len
    }

    /// Offset of the arena in the memory object.
    pub(crate) const fn arena_at(&self) -> usize {
        (SLOTS_AT + 2 * self.ring_len()).next_multiple_of(PAGE as usize)
    }

    const fn ring_len(&self) -> usize {
        self.entries as usize * SLOT_LEN
    }

    /// Where the parts of the submission ring lie.
    pub(crate) const fn submission(&self) -> RingPlace {
        RingPlace { tail: LINE, head: 2 * LINE, armed: 3 * LINE, slots: SLOTS_AT }
    }

    /// Where the parts of the completion ring lie.
    pub(crate) const fn completion(&self) -> RingPlace {
        let slots = SLOTS_AT + self.ring_len();
        RingPlace { tail: 4 * LINE, head: 5 * LINE, armed: 6 * LINE, slots }
    }
}

/// Offsets of one ring's parts in the memory object. The armed flag has a line of its own: under load
/// nobody writes it, so that the producer's look at it costs nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingPlace {
    pub(crate) tail: usize,
    pub(crate) head: usize,
    pub(crate) armed: usize,
    pub(crate) slots: usize,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sizes_outside_the_limits_are_refused_with_the_operand() {
        for entries in [0, 1, 3, 100, 8192, u32::MAX] {
            assert_eq!(RingGeometry::new(entries, 0), Err(GeometryError::Entries(entries)));
        }
        for len in [1, 4095, (64 << 20) + 4096, u64::MAX] {
            assert_eq!(RingGeometry::new(2, len), Err(GeometryError::ArenaLen(len)));
        }
    }

    #[test]
    fn no_two_parts_share_a_cache_line_and_all_lie_in_front_of_the_arena() {
        for shift in 1..=12 {
            let geometry = RingGeometry::new(1 << shift, 8192).unwrap();
            let (submission, completion) = (geometry.submission(), geometry.completion());
            let ring = (1 << shift) * SLOT_LEN;
            let mut parts = vec![(0, 64), (CLIENT_CPU_AT, 4), (SERVER_CPU_AT, 4)];
            for place in [submission, completion] {
                parts.extend([
                    (place.tail, 4),
                    (place.head, 4),
                    (place.armed, 4),
                    (place.slots, ring),
                ]);
            }
            parts.push((geometry.arena_at(), 8192));
            parts.sort();
            for pair in parts.windows(2) {
                assert!((pair[0].0 + pair[0].1).next_multiple_of(64) <= pair[1].0, "{pair:?}");
            }
            assert_eq!(geometry.object_len(), geometry.arena_at() as u64 + 8192);
        }
    }
}
