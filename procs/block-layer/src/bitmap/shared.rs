//! A dirty bitmap in memory that several hold: which pieces of a disk have changed.
//!
//! Used by mirrors and backups for what is left to do, and for the user's bitmaps that no image keeps. Ranges are
//! bytes of the disk.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::{Bits, Busy, Marks};

/// See the module.
#[derive(Debug)]
pub struct Bitmap {
    marks: RefCell<Marks>,
    /// Changes of the disk are recorded.
    enabled: Cell<bool>,
}

impl Bitmap {
    /// A clean bitmap for `size` bytes; `granularity` is a power of two.
    pub fn new(size: u64, granularity: u64) -> Self {
        let marks = RefCell::new(Bits::new(size, granularity).into());
        Self { marks, enabled: Cell::new(true) }
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.marks.borrow().bits().size()
    }

    /// Bytes of a piece.
    pub fn granularity(&self) -> u64 {
        self.marks.borrow().bits().granularity()
    }

    /// Dirty bytes, by whole pieces.
    pub fn dirty_bytes(&self) -> u64 {
        self.marks.borrow().bits().dirty_bytes()
    }

    /// Whether nothing is dirty.
    pub fn is_clean(&self) -> bool {
        self.dirty_bytes() == 0
    }

    /// Whether changes of the disk are recorded.
    pub fn is_enabled(&self) -> bool {
        self.enabled.get()
    }

    /// Begins or stops to record changes.
    pub fn enable(&self, enabled: bool) {
        self.enabled.set(enabled);
    }

    /// A change of the disk, if it records them.
    pub fn record(&self, range: Range<u64>) {
        if self.enabled.get() {
            self.marks.borrow_mut().record(range.start, range.end - range.start);
        }
    }

    /// Every piece that the range touches is dirty.
    pub fn set(&self, range: Range<u64>) {
        self.marks.borrow_mut().bits_mut().set(range.start, range.end.saturating_sub(range.start));
    }

    /// Every piece that lies wholly in the range is clean.
    pub fn clear(&self, range: Range<u64>) {
        let len = range.end.saturating_sub(range.start);
        self.marks.borrow_mut().bits_mut().clear(range.start, len);
    }

    /// Everything is clean.
    pub fn clear_all(&self) {
        self.clear(0..self.size());
    }

    /// Whether the piece with this byte is dirty.
    pub fn is_dirty(&self, at: u64) -> bool {
        self.marks.borrow().bits().is_dirty(at)
    }

    /// The first dirty range at or behind `from`, by whole pieces but for the disk's end, of at most
    /// `longest` bytes or one piece.
    pub fn next_dirty(&self, from: u64, longest: u64) -> Option<Range<u64>> {
        let marks = self.marks.borrow();
        if from >= marks.bits().size() {
            return None;
        }
        let granularity = marks.bits().granularity();
        let longest = (longest / granularity).max(1).saturating_mul(granularity);
        marks.bits().next_run(from / granularity * granularity, longest)
    }

    /// What is dirty in `bits` is dirty here too; both may have any granularity.
    pub fn merge(&self, bits: &Bits) {
        self.marks.borrow_mut().bits_mut().merge(bits);
    }

    /// A copy of the bits.
    pub fn bits(&self) -> Bits {
        self.marks.borrow().bits().clone()
    }

    /// The disk has another size. What is added is clean.
    pub fn resize(&self, size: u64) {
        self.marks.borrow_mut().resize(size);
    }

    /// Whether a job uses it.
    pub fn is_busy(&self) -> bool {
        self.marks.borrow().is_busy()
    }

    /// See [`Marks::claim`].
    pub fn claim(&self) -> Result<(), Busy> {
        self.marks.borrow_mut().claim()
    }

    /// See [`Marks::begin`].
    pub fn begin(&self) -> Bits {
        self.marks.borrow_mut().begin()
    }

    /// See [`Marks::renew`].
    pub fn renew(&self, left: Option<&Bits>) {
        self.marks.borrow_mut().renew(left);
    }

    /// See [`Marks::release`].
    pub fn release(&self) {
        self.marks.borrow_mut().release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirty_ranges_are_found_by_whole_pieces_and_end_with_the_disk() {
        let bitmap = Bitmap::new(1_000_000, 4096);
        bitmap.set(5000..5001);
        bitmap.set(8192..300_000);
        bitmap.set(999_999..2_000_000);
        assert_eq!(bitmap.next_dirty(0, u64::MAX), Some(4096..303_104));
        assert_eq!(bitmap.next_dirty(6000, 10_000), Some(4096..12_288));
        assert_eq!(bitmap.next_dirty(6000, 1), Some(4096..8192));
        assert_eq!(bitmap.next_dirty(303_104, u64::MAX), Some(999_424..1_000_000));
        assert_eq!(bitmap.next_dirty(1_000_000, u64::MAX), None);
        assert_eq!(bitmap.dirty_bytes(), 303_104 - 4096 + 4096);
        bitmap.clear(0..1_000_000);
        assert!(bitmap.is_clean() && bitmap.next_dirty(0, 1).is_none());
    }

    #[test]
    fn bits_survive_a_merge_into_another_granularity() {
        let (small, large) = (Bitmap::new(1 << 20, 512), Bitmap::new(1 << 20, 65536));
        small.set(70_000..70_512);
        large.merge(&small.bits());
        assert_eq!(large.next_dirty(0, u64::MAX), Some(65536..131_072));
        assert_eq!(small.dirty_bytes(), 1024);
    }
}
