//! What the journal has of bitmaps, so that the death of the process loses no bit.
//!
//! The bits in the file are those of the time when they were read. The journal says which bitmaps were
//! right then ([`Record::Consistent`]), and what was set since ([`Record::Dirty`]). Commits forget
//! records, so each commit notes these again; they stay few because ranges grow together: a bitmap with
//! too many of them is remembered by larger granules. What was cleared is not noted: it is dirty again
//! after a death, and is copied once more than needed.
//!
//! Records name the directory for which they are: those of one that is not in force are void.

use std::rc::Rc;

use super::Tracked;
use crate::bitmap::Bits;
use crate::qcow2::Qcow2;
use crate::qcow2::journal::Record;
use crate::storage::Storage;

/// Ranges of all bitmaps together that are noted by a commit.
const MOST_RANGES: u64 = 2048;

/// Bitmaps that are kept; if there are more, the death of the process makes all of them inconsistent.
const MOST_KEPT: usize = 1024;

/// What a predecessor has left.
#[derive(Debug, Default)]
pub(in crate::qcow2) struct Inherited {
    consistent: Vec<(u64, u64)>,
    dirty: Vec<(u64, u64, u64, u64)>,
}

impl Inherited {
    /// Takes records of bitmaps from the others.
    pub(in crate::qcow2) fn of(records: &[Record]) -> Self {
        let mut inherited = Self::default();
        for record in records {
            match *record {
                Record::Consistent { directory, bitmap } => {
                    inherited.consistent.push((directory, bitmap));
                }
                Record::Dirty { directory, bitmap, at, len } => {
                    inherited.dirty.push((directory, bitmap, at, len));
                }
                _ => {}
            }
        }
        inherited
    }

    pub(super) fn has(&self, directory: u64, bitmap: u64) -> bool {
        self.consistent.contains(&(directory, bitmap))
    }

    pub(super) fn dirty(&self, of: u64, number: u64) -> impl Iterator<Item = (u64, u64)> {
        let ranges = self.dirty.iter().filter(move |range| (range.0, range.1) == (of, number));
        ranges.map(|range| (range.2, range.3))
    }
}

impl<S: Storage> Qcow2<S> {
    /// The range was written, or may have been.
    pub(in crate::qcow2) fn touch(&self, at: u64, len: u64) {
        let bitmaps = self.bitmaps.borrow();
        let kept = bitmaps.len() <= MOST_KEPT;
        for (index, bitmap) in bitmaps.iter().enumerate().filter(|(_, b)| b.enabled.get()) {
            let Some(marks) = &mut *bitmap.marks.borrow_mut() else {
                continue;
            };
            if marks.record(at, len) == 0 {
                continue;
            }
            bitmap.changed.set(true);
            let since = &mut *bitmap.since.borrow_mut();
            if since.set(at, len) > 0 && kept {
                let granularity = since.granularity();
                let from = at / granularity * granularity;
                let len = (at + len).next_multiple_of(granularity) - from;
                let (directory, bitmap) = (self.directory_at(), index as u64);
                self.note(Record::Dirty { directory, bitmap, at: from, len });
            }
        }
    }

    /// The disk has another size. Nothing else is under way.
    pub(in crate::qcow2) fn resize_bitmaps(&self, size: u64) {
        for bitmap in &*self.bitmaps.borrow() {
            if let Some(marks) = &mut *bitmap.marks.borrow_mut() {
                marks.resize(size);
                bitmap.changed.set(true);
                bitmap.since.borrow_mut().resize(size);
            }
        }
    }

    /// Everything again, before earlier records are forgotten.
    pub(in crate::qcow2) fn note_bitmaps(&self) {
        let bitmaps = self.bitmaps.borrow();
        if bitmaps.len() > MOST_KEPT || bitmaps.is_empty() {
            return;
        }
        let directory = self.directory_at();
        self.note_consistent(directory, &bitmaps);
        let most = MOST_RANGES / bitmaps.len() as u64;
        for (index, bitmap) in bitmaps.iter().enumerate() {
            let since = &mut *bitmap.since.borrow_mut();
            coarsen(since, most.max(1));
            let mut from = 0;
            while let Some(range) = since.next_dirty(from, since.size()) {
                let (at, len) = (range.start, range.end - range.start);
                self.note(Record::Dirty { directory, bitmap: index as u64, at, len });
                from = range.end;
            }
        }
    }

    pub(super) fn note_consistent(&self, directory: u64, bitmaps: &[Rc<Tracked>]) {
        if bitmaps.len() > MOST_KEPT {
            return;
        }
        for (index, bitmap) in bitmaps.iter().enumerate() {
            if bitmap.is_loaded() {
                self.note(Record::Consistent { directory, bitmap: index as u64 });
            }
        }
    }
}

/// Larger granules until at most `most` are set.
fn coarsen(bitmap: &mut Bits, most: u64) {
    while bitmap.dirty_bytes() / bitmap.granularity() > most
        && bitmap.granularity() < crate::bitmap::MOST_GRANULARITY
    {
        let mut coarse = Bits::new(bitmap.size(), bitmap.granularity() * 4);
        coarse.merge(bitmap);
        *bitmap = coarse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scattered_is_remembered_by_larger_pieces() {
        let mut bitmap = Bits::new(1 << 40, 65536);
        for index in 0..10_000 {
            bitmap.set(index * 100_000_000, 1);
        }
        let fine = bitmap.clone();
        coarsen(&mut bitmap, 100);
        assert!(bitmap.dirty_bytes() / bitmap.granularity() <= 1024);
        assert!((0..10_000).all(|index| bitmap.is_dirty(index * 100_000_000)));
        assert!(fine.dirty_bytes() <= bitmap.dirty_bytes());
    }
}
