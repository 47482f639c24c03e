//! The journal of a qcow2 image in a memory object that the supervisor keeps.
//!
//! ```text
//! 0      magic and version
//! 8      number of the first record        moved by the commit that made it superfluous
//! 16     number behind the last            moved once the record is there
//! 4096   records of 32 bytes, record n in place n modulo their count
//! ```
//!
//! The process may be killed between any two stores. A record that is half there is not counted yet.
//! Only block-layers of this disk ever have the object; one that was taken over may have left anything
//! in it, so a successor checks what it reads, as it checks an image.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use bulkhead_protocol::block::JOURNAL_BYTES;
use bulkhead_sys::mapping::{Rights, SharedMapping};

use crate::qcow2::journal::{Journal, Record};

/// `BHJ1`.
const MAGIC: u64 = 0x4248_4a31;

const MAGIC_AT: usize = 0;
const FIRST_AT: usize = 8;
const NEXT_AT: usize = 16;
const RECORDS_AT: usize = 4096;
const RECORD: usize = 32;

/// Places for records.
const PLACES: u64 = ((JOURNAL_BYTES as usize - RECORDS_AT) / RECORD) as u64;

/// See the module.
#[derive(Debug)]
pub struct Kept(SharedMapping);

/// The object is no journal. The predecessor (`Peer`) or the supervisor (`Bug`) is to blame.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It cannot be mapped.
    #[error("the journal cannot be mapped: {0}")]
    Host(#[from] std::io::Error),
    /// Its seals or its length.
    #[error("the journal is wrong: {0}")]
    Object(#[from] bulkhead_sys::memfd::SealError),
    /// Its numbers.
    #[error("the journal of the process before is damaged")]
    Damaged,
}

impl Kept {
    /// Maps the object; a fresh one is all zeroes.
    pub fn open(object: &OwnedFd) -> Result<Self, KeptError> {
        use std::os::fd::AsFd;
        bulkhead_sys::memfd::verify_sealed(object.as_fd(), JOURNAL_BYTES)?;
        let map = SharedMapping::map(object, JOURNAL_BYTES as usize, Rights::ReadWrite)?;
        let kept = Self(map);
        match kept.number(MAGIC_AT) {
            0 => kept.set_number(MAGIC_AT, MAGIC),
            MAGIC => {}
            _ => return Err(KeptError::Damaged),
        }
        let (first, next) = (kept.number(FIRST_AT), kept.number(NEXT_AT));
        if next.checked_sub(first).is_none_or(|count| count > PLACES) || next > 1 << 62 {
            return Err(KeptError::Damaged);
        }
        Ok(kept)
    }

    fn number(&self, at: usize) -> u64 {
        self.0.atomic_u64(at).map_or(0, |number| number.load(Ordering::Acquire))
    }

    fn set_number(&self, at: usize, value: u64) {
        if let Ok(number) = self.0.atomic_u64(at) {
            number.store(value, Ordering::Release);
        }
    }

    fn place(number: u64) -> usize {
        RECORDS_AT + (number % PLACES) as usize * RECORD
    }

    fn count(&self) -> u64 {
        self.number(NEXT_AT).saturating_sub(self.number(FIRST_AT))
    }
}

impl Journal for Kept {
    fn append(&self, record: Record) -> bool {
        if self.count() >= PLACES {
            return false;
        }
        let next = self.number(NEXT_AT);
        let mut bytes = [0; RECORD];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words(record)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        if self.0.copy_out(Self::place(next), &bytes).is_err() {
            return false;
        }
        self.set_number(NEXT_AT, next + 1);
        true
    }

    fn is_crowded(&self) -> bool {
        self.count() > PLACES / 2
    }

    fn mark(&self) -> u64 {
        self.number(NEXT_AT)
    }

    fn forget(&self, mark: u64) {
        self.set_number(FIRST_AT, mark);
    }

    fn records(&self) -> Vec<Record> {
        let read = |number| {
            let mut bytes = [0; RECORD];
            self.0.copy_in(Self::place(number), &mut bytes).ok()?;
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            }
            record(words)
        };
        (self.number(FIRST_AT)..self.number(NEXT_AT)).filter_map(read).collect()
    }
}

fn words(record: Record) -> [u64; 4] {
    match record {
        Record::Count { cluster, count } => [1, cluster, count, 0],
        Record::Block { index, at } => [2, index, at, 0],
        Record::Table { index, at } => [3, index, at, 0],
        Record::Entry { cluster, descriptor, bitmap } => [4, cluster, descriptor, bitmap],
        Record::Free { cluster, number } => [5, cluster, number, 0],
        Record::Take { cluster } => [6, cluster, 0, 0],
        Record::Consistent { directory, bitmap } => [7 | directory << 8, bitmap, 0, 0],
        Record::Dirty { directory, bitmap, at, len } => [8 | directory << 8, bitmap, at, len],
    }
}

fn record([kind, a, b, c]: [u64; 4]) -> Option<Record> {
    // Offsets have 56 bits.
    let directory = kind >> 8;
    Some(match kind & 0xff {
        1 => Record::Count { cluster: a, count: b },
        2 => Record::Block { index: a, at: b },
        3 => Record::Table { index: a, at: b },
        4 => Record::Entry { cluster: a, descriptor: b, bitmap: c },
        5 => Record::Free { cluster: a, number: b },
        6 => Record::Take { cluster: a },
        7 => Record::Consistent { directory, bitmap: a },
        8 => Record::Dirty { directory, bitmap: a, at: b, len: c },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_outlive_their_writer_and_the_forgotten_do_not() {
        let object = bulkhead_sys::memfd::create_sealed("journal", JOURNAL_BYTES).unwrap();
        let journal = Kept::open(&object).unwrap();
        let entry = |cluster| Record::Entry { cluster, descriptor: 7, bitmap: 9 };
        for cluster in 0..100_000 {
            assert!(journal.append(entry(cluster)));
            if journal.is_crowded() {
                let mark = journal.mark();
                assert!(journal.append(Record::Free { cluster, number: cluster }));
                journal.forget(mark);
            }
        }
        let records = Kept::open(&object).unwrap().records();
        assert_eq!(records, journal.records());
        assert_eq!(records.last(), Some(&entry(99_999)));
        assert!((records.len() as u64) < PLACES);
    }

    #[test]
    fn a_full_journal_says_so_and_a_damaged_one_is_refused() {
        let object = bulkhead_sys::memfd::create_sealed("journal", JOURNAL_BYTES).unwrap();
        let journal = Kept::open(&object).unwrap();
        let room =
            (0..PLACES + 10).take_while(|_| journal.append(Record::Free { cluster: 1, number: 1 }));
        assert_eq!(room.count() as u64, PLACES);
        journal.set_number(FIRST_AT, u64::MAX);
        assert!(matches!(Kept::open(&object), Err(KeptError::Damaged)));
    }
}
