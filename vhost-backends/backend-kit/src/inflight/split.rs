//! The record of a split queue.
//!
//! Offsets are those of `QueueRegionSplit` and `DescStateSplit` in the vhost-user text. A head's
//! index is its entry's.

use bulkhead_protocol::inflight::{SPLIT_DESCRIPTOR, SPLIT_HEADER};

use super::region::Words;
use super::table::InflightTable;
use super::{TableFault, VERSION};

/// In the header.
const AT_VERSION: usize = 8;
const AT_ENTRIES: usize = 10;
const AT_LAST_BATCH_HEAD: usize = 12;
const AT_USED_INDEX: usize = 14;

/// In an entry.
const AT_INFLIGHT: usize = 0;
const AT_ATTEMPTS: usize = 1;
const AT_NEXT: usize = 6;
const AT_COUNTER: usize = 8;

/// What a predecessor left.
#[derive(Debug, PartialEq, Eq)]
pub struct SplitRecovery {
    /// Heads in flight, in the order in which they were taken.
    pub heads: Vec<u16>,
    /// How many chains the ring's used index counts.
    pub used: u16,
}

impl SplitRecovery {
    /// The next available index: all that was answered and all that is in flight was taken.
    pub fn available(&self) -> u16 {
        self.used.wrapping_add(self.heads.len() as u16)
    }
}

/// The record of a split queue while it is served.
#[derive(Debug)]
pub struct SplitRecord {
    words: Words,
    size: u16,
    counter: u64,
    last_batch_head: u16,
    /// Heads given back since the last commit.
    batch: Vec<u16>,
}

impl SplitRecord {
    /// Takes up the record of queue `index` of `size` descriptors, whose ring is at used index
    /// `used`. `None` in place of a recovery: the record is new and the driver's base counts.
    pub fn open(
        table: &InflightTable,
        index: u16,
        size: u16,
        used: u16,
    ) -> Result<(Self, Option<SplitRecovery>), TableFault> {
        let found = table.plan().queue_size;
        let words = table.words(index).ok_or(TableFault::Entries { found: 0, size })?;
        if size > found {
            return Err(TableFault::Entries { found, size });
        }
        let batch = Vec::with_capacity(size.into());
        let mut record = Self { words, size, counter: 0, last_batch_head: 0, batch };
        match record.words.load_u16(AT_VERSION) {
            0 => {
                record.begin_anew(used);
                Ok((record, None))
            }
            VERSION if record.is_of_another_ring(used) => {
                record.begin_anew(used);
                Ok((record, None))
            }
            VERSION => record.recover(used).map(|recovery| (record, Some(recovery))),
            other => Err(TableFault::Version(other)),
        }
    }

    /// The version is stored last: a record without one was never used. The used index is the ring's
    /// and not 0, or a death before the first answer would look like one in the midst of it, and
    /// entry 0 would be forgotten.
    fn begin_anew(&self, used: u16) {
        self.words.store_u16(AT_VERSION, 0);
        self.words.zero();
        self.words.store_u16(AT_ENTRIES, self.size);
        self.words.store_u16(AT_USED_INDEX, used);
        self.words.store_u16(AT_VERSION, VERSION);
    }

    /// A frontend asks for a fresh table when it starts a fresh ring. One that forgets it does no harm
    /// as long as nothing was in flight.
    fn is_of_another_ring(&self, used: u16) -> bool {
        let shown = used.wrapping_sub(self.words.load_u16(AT_USED_INDEX));
        let idle = |head| self.words.load_u8(entry(head) + AT_INFLIGHT) == 0;
        shown > self.size && (0..self.size).all(idle)
    }

    fn recover(&mut self, used: u16) -> Result<SplitRecovery, TableFault> {
        let found = self.words.load_u16(AT_ENTRIES);
        if found != self.size {
            return Err(TableFault::Entries { found, size: self.size });
        }
        self.last_batch_head = self.words.load_u16(AT_LAST_BATCH_HEAD);
        self.finish_batch(used)?;
        let mut heads = Vec::with_capacity(self.size.into());
        for head in 0..self.size {
            match self.words.load_u8(entry(head) + AT_INFLIGHT) {
                0 => {}
                1 => heads.push((self.words.load_u64(entry(head) + AT_COUNTER), head)),
                _ => return Err(TableFault::Entry(head)),
            }
        }
        heads.sort_unstable();
        self.counter = heads.last().map_or(0, |(counter, _)| counter.wrapping_add(1));
        let heads = heads.into_iter().map(|(_, head)| head).collect();
        Ok(SplitRecovery { heads, used })
    }

    /// The predecessor may have died after the driver saw a batch and before its entries were
    /// cleared.
    fn finish_batch(&mut self, used: u16) -> Result<(), TableFault> {
        let table = self.words.load_u16(AT_USED_INDEX);
        let shown = used.wrapping_sub(table);
        if shown > self.size {
            return Err(TableFault::UsedIndex { table, ring: used });
        }
        let mut head = self.last_batch_head;
        for _ in 0..shown {
            if head >= self.size {
                return Err(TableFault::Link(head));
            }
            self.words.store_u8(entry(head) + AT_INFLIGHT, 0);
            head = self.words.load_u16(entry(head) + AT_NEXT);
        }
        self.words.store_u16(AT_USED_INDEX, used);
        Ok(())
    }

    /// A chain was taken.
    #[inline]
    pub fn take(&mut self, head: u16) {
        let at = entry(head);
        self.words.store_u8(at + AT_ATTEMPTS, 0);
        self.words.store_u64(at + AT_COUNTER, self.counter);
        self.words.store_u8(at + AT_INFLIGHT, 1);
        self.counter = self.counter.wrapping_add(1);
    }

    /// A chain was written to the used ring, where the driver does not see it yet.
    #[inline]
    pub fn give_back(&mut self, head: u16) {
        self.words.store_u16(entry(head) + AT_NEXT, self.last_batch_head);
        self.words.store_u16(AT_LAST_BATCH_HEAD, head);
        self.last_batch_head = head;
        self.batch.push(head);
    }

    /// The driver sees all that was given back: the ring's used index is `used`.
    #[inline]
    pub fn commit(&mut self, used: u16) {
        for head in self.batch.drain(..) {
            self.words.store_u8(entry(head) + AT_INFLIGHT, 0);
        }
        self.words.store_u16(AT_USED_INDEX, used);
    }

    /// Counts one more attempt for a chain in flight.
    pub fn count_attempt(&self, head: u16) {
        let at = entry(head) + AT_ATTEMPTS;
        self.words.store_u8(at, self.words.load_u8(at).saturating_add(1));
    }

    /// Attempts counted for a chain in flight.
    pub fn attempts(&self, head: u16) -> u8 {
        self.words.load_u8(entry(head) + AT_ATTEMPTS)
    }

    /// Some request was answered: deaths before do not count any more.
    pub fn forgive(&self) {
        for head in 0..self.size {
            self.words.store_u8(entry(head) + AT_ATTEMPTS, 0);
        }
    }

    /// Takes a chain out that was taken last and shall be found in the ring again.
    pub fn untake(&mut self, head: u16) {
        self.words.store_u8(entry(head) + AT_INFLIGHT, 0);
        self.counter = self.counter.wrapping_sub(1);
    }
}

/// Offset of a head's entry. Heads are below the queue's size.
fn entry(head: u16) -> usize {
    SPLIT_HEADER as usize + usize::from(head) * SPLIT_DESCRIPTOR as usize
}
