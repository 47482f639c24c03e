//! A dirty bitmap in memory: which pieces of a disk have changed.
//!
//! Used by mirrors and backups for what is left to do, and by the user's bitmaps, whose bits a
//! persistent bitmap in an image stores. One bit per `granularity` bytes; a piece is dirty if one byte of
//! it is.

use std::cell::{Cell, RefCell};
use std::ops::Range;

/// See the module.
#[derive(Debug)]
pub struct Bitmap {
    size: Cell<u64>,
    granularity: u64,
    words: RefCell<Vec<u64>>,
    /// Dirty pieces.
    count: Cell<u64>,
    /// Changes of the disk are recorded.
    enabled: Cell<bool>,
}

impl Bitmap {
    /// A clean bitmap for `size` bytes; `granularity` is a power of two.
    pub fn new(size: u64, granularity: u64) -> Self {
        let words = vec![0; words(size, granularity)];
        Self {
            size: Cell::new(size),
            granularity,
            words: RefCell::new(words),
            count: Cell::new(0),
            enabled: Cell::new(true),
        }
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size.get()
    }

    /// Bytes of a piece.
    pub fn granularity(&self) -> u64 {
        self.granularity
    }

    /// Dirty bytes, by whole pieces.
    pub fn dirty_bytes(&self) -> u64 {
        self.count.get() * self.granularity
    }

    /// Whether nothing is dirty.
    pub fn is_clean(&self) -> bool {
        self.count.get() == 0
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
            self.set(range);
        }
    }

    /// Every piece of the range is dirty.
    pub fn set(&self, range: Range<u64>) {
        self.change(range, true);
    }

    /// Every piece that the range touches is clean.
    pub fn clear(&self, range: Range<u64>) {
        self.change(range, false);
    }

    /// Everything is clean.
    pub fn clear_all(&self) {
        self.words.borrow_mut().fill(0);
        self.count.set(0);
    }

    /// Whether the piece with this byte is dirty.
    pub fn is_dirty(&self, at: u64) -> bool {
        bit(&self.words.borrow(), at / self.granularity)
    }

    /// The first dirty range at or behind `from`, by whole pieces but for the disk's end, of at most
    /// `longest` bytes or one piece.
    pub fn next_dirty(&self, from: u64, longest: u64) -> Option<Range<u64>> {
        if from >= self.size.get() {
            return None;
        }
        let words = self.words.borrow();
        let pieces = self.size.get().div_ceil(self.granularity);
        let first = next_set(&words, from / self.granularity).filter(|first| *first < pieces)?;
        let most = (longest / self.granularity).max(1);
        let mut end = first + 1;
        while end < pieces && end - first < most && bit(&words, end) {
            end += 1;
        }
        Some(first * self.granularity..(end * self.granularity).min(self.size.get()))
    }

    /// What is dirty in `other` is dirty here too; both may have any granularity.
    pub fn merge(&self, other: &Self) {
        let mut from = 0;
        while let Some(range) = other.next_dirty(from, u64::MAX) {
            from = range.end;
            self.set(range);
            if from >= other.size.get() {
                break;
            }
        }
    }

    /// A copy, with its own bits.
    pub fn snapshot(&self) -> Self {
        Self {
            size: self.size.clone(),
            granularity: self.granularity,
            words: self.words.clone(),
            count: self.count.clone(),
            enabled: Cell::new(true),
        }
    }

    /// The disk has another size. What is added is clean.
    pub fn resize(&self, size: u64) {
        let old = self.size.get();
        if size < old {
            self.clear(size.next_multiple_of(self.granularity)..old);
        }
        self.words.borrow_mut().resize(words(size, self.granularity), 0);
        self.size.set(size);
    }

    /// The bits, the first piece in the lowest bit of the first word.
    pub fn words(&self) -> Vec<u64> {
        self.words.borrow().clone()
    }

    /// Takes over bits as [`words`](Self::words) gives them. Those behind the end are ignored.
    pub fn load(&self, bits: &[u64]) {
        self.clear_all();
        let pieces = self.size.get().div_ceil(self.granularity);
        let mut from = 0;
        while let Some(piece) = next_set(bits, from).filter(|piece| *piece < pieces) {
            self.set(piece * self.granularity..piece * self.granularity + 1);
            from = piece + 1;
        }
    }

    fn change(&self, range: Range<u64>, dirty: bool) {
        let end = range.end.min(self.size.get());
        if range.start >= end {
            return;
        }
        let words = &mut *self.words.borrow_mut();
        let (first, end) = (range.start / self.granularity, end.div_ceil(self.granularity));
        let mut changed = 0;
        for word in first / 64..=(end - 1) / 64 {
            let low = first.saturating_sub(word * 64).min(64);
            let high = (end - word * 64).min(64);
            let mask = below(high) & !below(low);
            let Some(bits) = words.get_mut(word as usize) else {
                break;
            };
            let new = if dirty { *bits | mask } else { *bits & !mask };
            changed += (*bits ^ new).count_ones() as u64;
            *bits = new;
        }
        let count = self.count.get();
        self.count.set(if dirty { count + changed } else { count - changed });
    }
}

fn words(size: u64, granularity: u64) -> usize {
    size.div_ceil(granularity).div_ceil(64) as usize
}

fn below(count: u64) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

fn bit(words: &[u64], index: u64) -> bool {
    words.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

/// The first set bit at or behind `from`.
fn next_set(words: &[u64], from: u64) -> Option<u64> {
    let mut index = from / 64;
    let mut rest = words.get(index as usize)? & !below(from % 64);
    while rest == 0 {
        index += 1;
        rest = *words.get(index as usize)?;
    }
    Some(index * 64 + u64::from(rest.trailing_zeros()))
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
        assert_eq!(bitmap.next_dirty(303_104, u64::MAX), Some(999_424..1_000_000));
        assert_eq!(bitmap.next_dirty(1_000_000, u64::MAX), None);
        assert_eq!(bitmap.dirty_bytes(), 303_104 - 4096 + 4096);
        bitmap.clear(0..1_000_000);
        assert!(bitmap.is_clean() && bitmap.next_dirty(0, 1).is_none());
    }

    #[test]
    fn bits_survive_a_merge_into_another_granularity_and_a_round_through_words() {
        let (small, large) = (Bitmap::new(1 << 20, 512), Bitmap::new(1 << 20, 65536));
        small.set(70_000..70_512);
        large.merge(&small);
        assert_eq!(large.next_dirty(0, u64::MAX), Some(65536..131_072));
        let again = Bitmap::new(1 << 20, 512);
        again.load(&small.words());
        assert_eq!(again.next_dirty(0, u64::MAX), small.next_dirty(0, u64::MAX));
        assert_eq!(again.dirty_bytes(), 1024);
    }
}
