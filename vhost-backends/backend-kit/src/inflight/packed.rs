//! The record of a packed queue.
//!
//! Offsets are those of `QueueRegionPacked` and `DescStatePacked` in the vhost-user text. The entries
//! hold copies of the ring's descriptors, since used ones overwrite them; they are linked as chains of
//! requests in flight and as one free list.
//!
//! Where the text leaves room:
//! - The free list ends with the number of entries, which no entry has. Without an end a full table
//!   would have a free head that is in flight, and its request would be forgotten.
//! - Each chain is given back by itself (a batch of one), see
//!   [`PackedQueue::give_back`](bulkhead_virtqueue::PackedQueue::give_back).
//! - The four fields of the two used positions lie in one aligned word and are stored at once: a death
//!   between index and wrap counter would leave a position that never was.

use bulkhead_protocol::inflight::{PACKED_DESCRIPTOR, PACKED_HEADER};
use bulkhead_virtqueue::{PackedDescriptor, PackedPosition};

use super::region::Words;
use super::table::InflightTable;
use super::{TableFault, VERSION};

mod recover;

use recover::PackedRecovery;
pub use recover::PackedRequest;

/// In the header.
const AT_VERSION: usize = 8;
const AT_ENTRIES: usize = 10;
const AT_FREE_HEAD: usize = 12;
const AT_OLD_FREE_HEAD: usize = 14;
/// used_idx u16, old_used_idx u16, used_wrap_counter u8, old_used_wrap_counter u8, padding.
const AT_POSITIONS: usize = 16;

/// In an entry.
const AT_INFLIGHT: usize = 0;
const AT_ATTEMPTS: usize = 1;
const AT_NEXT: usize = 2;
const AT_LAST: usize = 4;
const AT_COUNT: usize = 6;
const AT_COUNTER: usize = 8;
const AT_ID: usize = 16;
const AT_FLAGS: usize = 18;
const AT_LEN: usize = 20;
const AT_ADDR: usize = 24;

/// The record of a packed queue while it is served.
#[derive(Debug)]
pub struct PackedRecord {
    words: Words,
    size: u16,
    counter: u64,
    /// Our own copy of the links; the table's are for the successor.
    next: Vec<u16>,
    /// First free entry, or `size`.
    free_head: u16,
    used: PackedPosition,
}

impl PackedRecord {
    /// Takes up the record of queue `index` of `size` descriptors. `base` is where the driver says
    /// that the next used descriptor goes; it counts if the record is new, which `None` in place of a
    /// recovery says. `is_available` tells whether the ring's descriptor at a place is still unused.
    pub fn open<E: From<TableFault>>(
        table: &InflightTable,
        index: u16,
        size: u16,
        base: PackedPosition,
        is_available: impl FnOnce(PackedPosition) -> Result<bool, E>,
    ) -> Result<(Self, Option<PackedRecovery>), E> {
        let found = table.plan().queue_size;
        let words = table.words(index).ok_or(TableFault::Entries { found: 0, size })?;
        if size > found {
            return Err(TableFault::Entries { found, size }.into());
        }
        let next = (1..=size).collect();
        let mut record = Self { words, size, counter: 0, next, free_head: 0, used: base };
        match record.words.load_u16(AT_VERSION) {
            0 => {
                record.begin_anew();
                Ok((record, None))
            }
            VERSION => {
                record.settle(is_available)?;
                let recovery = record.recover()?;
                Ok((record, Some(recovery)))
            }
            other => Err(TableFault::Version(other).into()),
        }
    }

    fn begin_anew(&self) {
        self.words.zero();
        self.words.store_u16(AT_ENTRIES, self.size);
        for (entry, next) in (0..self.size).zip(&self.next) {
            self.words.store_u16(place(entry) + AT_NEXT, *next);
        }
        self.store_positions(self.used);
        self.words.store_u16(AT_VERSION, VERSION);
    }

    /// Stores the used position and the one before.
    fn store_positions(&self, old: PackedPosition) {
        let word = u64::from(self.used.index)
            | u64::from(old.index) << 16
            | u64::from(self.used.wrap) << 32
            | u64::from(old.wrap) << 40;
        self.words.store_u64(AT_POSITIONS, word);
    }

    /// A chain was taken, whose descriptors these are; answers the entry by which it is known. `None`
    /// if there are not so many free entries: the queue lets no more in than it has places, so never.
    pub fn take(&mut self, descriptors: &[PackedDescriptor]) -> Option<u16> {
        let first = self.free_head;
        let (mut entry, mut last) = (first, first);
        for copy in descriptors {
            let next = *self.next.get(usize::from(entry))?;
            let at = place(entry);
            self.words.store_u64(at + AT_ADDR, copy.addr().0);
            self.words.store_u32(at + AT_LEN, copy.len());
            self.words.store_u16(at + AT_FLAGS, copy.flags());
            self.words.store_u16(at + AT_ID, copy.id());
            (last, entry) = (entry, next);
        }
        let at = place(first);
        self.words.store_u16(at + AT_LAST, last);
        self.words.store_u16(at + AT_COUNT, descriptors.len() as u16);
        self.words.store_u64(at + AT_COUNTER, self.counter);
        self.words.store_u8(at + AT_ATTEMPTS, 0);
        self.words.store_u8(at + AT_INFLIGHT, 1);
        self.counter = self.counter.wrapping_add(1);
        self.store_free_head(entry);
        // From here on it is in flight: the entry is marked, and it left the free list.
        self.words.store_u16(AT_OLD_FREE_HEAD, entry);
        Some(first)
    }

    fn store_free_head(&mut self, entry: u16) {
        self.free_head = entry;
        self.words.store_u16(AT_FREE_HEAD, entry);
    }

    /// A chain of `slots` entries is about to be given back.
    pub fn prepare(&mut self, entry: u16, slots: u16) {
        let last = self.last_of(entry, slots);
        if let Some(next) = self.next.get_mut(usize::from(last)) {
            *next = self.free_head;
            self.words.store_u16(place(last) + AT_NEXT, self.free_head);
        }
        self.store_free_head(entry);
        let old = self.used;
        self.used = old.advanced(slots, self.size);
        self.store_positions(old);
    }

    fn last_of(&self, first: u16, slots: u16) -> u16 {
        let follow = |entry: u16, _| self.next.get(usize::from(entry)).copied().unwrap_or(first);
        (1..slots).fold(first, follow)
    }

    /// The driver sees what was prepared.
    pub fn commit(&mut self, entry: u16) {
        self.words.store_u8(place(entry) + AT_INFLIGHT, 0);
        self.words.store_u16(AT_OLD_FREE_HEAD, self.free_head);
        self.store_positions(self.used);
    }

    /// Takes a chain out that was taken last and shall be found in the ring again.
    pub fn untake(&mut self, entry: u16) {
        self.store_free_head(entry);
        self.words.store_u16(AT_OLD_FREE_HEAD, entry);
        self.words.store_u8(place(entry) + AT_INFLIGHT, 0);
        self.counter = self.counter.wrapping_sub(1);
    }

    /// Counts one more attempt for a chain in flight.
    pub fn count_attempt(&self, entry: u16) {
        let at = place(entry) + AT_ATTEMPTS;
        self.words.store_u8(at, self.words.load_u8(at).saturating_add(1));
    }

    /// Attempts counted for a chain in flight.
    pub fn attempts(&self, entry: u16) -> u8 {
        self.words.load_u8(place(entry) + AT_ATTEMPTS)
    }

    /// Some request was answered: deaths before do not count any more.
    pub fn forgive(&self) {
        for entry in 0..self.size {
            self.words.store_u8(place(entry) + AT_ATTEMPTS, 0);
        }
    }

    /// The descriptors of a request that a predecessor had in flight.
    pub fn descriptors(&self, request: &PackedRequest) -> Vec<PackedDescriptor> {
        let mut entry = request.entry;
        let mut copies = Vec::with_capacity(request.slots.into());
        for _ in 0..request.slots {
            let at = place(entry);
            let (addr, len) = (self.words.load_u64(at + AT_ADDR), self.words.load_u32(at + AT_LEN));
            let (id, flags) = (self.words.load_u16(at + AT_ID), self.words.load_u16(at + AT_FLAGS));
            copies.push(PackedDescriptor::new(addr, len, id, flags));
            entry = self.next.get(usize::from(entry)).copied().unwrap_or(entry);
        }
        copies
    }
}

/// Offset of an entry. Entries are below the queue's size.
fn place(entry: u16) -> usize {
    PACKED_HEADER as usize + usize::from(entry) * PACKED_DESCRIPTOR as usize
}
