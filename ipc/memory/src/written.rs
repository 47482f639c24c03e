//! Which pages of guest memory were written: the log of vhost-user (VHOST_F_LOG_ALL), a bit a page.
//!
//! Whoever writes guest memory on the guest's behalf marks pages; whoever must know takes the marks. Both
//! sides map the same object, made and sealed by the supervisor or by a foreign frontend.
//!
//! Law: data first, then the mark, then whatever tells the guest of the data (a used index). So who has
//! seen the last of these and takes the marks afterwards misses nothing. A mark is always a locked
//! operation, also where the bit is set already: the bit might just be being taken.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bulkhead_sys::mapping::{Rights, SharedMapping};

use crate::layout::{PAGE, RamLayout};

/// Pages that a word of the log stands for.
pub const PAGES_OF_WORD: u64 = 64;

/// A log, mapped. Bit `n` of the object (little-endian) stands for the page at guest address 4096·`n`.
#[derive(Debug)]
pub struct WrittenPages {
    mapping: SharedMapping,
    /// Bytes of the mapping in front of the log.
    lead: usize,
    words: u64,
}

impl WrittenPages {
    /// Bytes of a log for all RAM of a machine.
    pub fn len_of(layout: &RamLayout) -> u64 {
        let ends = layout.regions.iter().filter_map(|region| region.guest_end());
        ends.max().unwrap_or(0).div_ceil(PAGE * PAGES_OF_WORD) * 8
    }

    /// Maps the `len` bytes of `fd` from `offset`; what does not fill a word at the end is not used. The
    /// descriptor may be closed afterwards.
    pub fn map(fd: impl AsFd, offset: u64, len: u64) -> io::Result<Self> {
        let start = offset - offset % PAGE;
        let lead = (offset - start) as usize;
        let words = len / 8;
        let mapped = usize::try_from(len).ok().and_then(|len| len.checked_add(lead));
        let mapped = mapped.filter(|_| words > 0 && lead.is_multiple_of(8));
        let mapped = mapped.ok_or(io::ErrorKind::InvalidInput)?;
        let mapping = SharedMapping::map_from(fd, start, mapped, Rights::ReadWrite)?;
        Ok(Self { mapping, lead, words })
    }

    /// Words of the log.
    pub fn words(&self) -> u64 {
        self.words
    }

    /// Marks the pages of `len` bytes at guest address `addr`, as far as the log has bits for them.
    pub fn mark(&self, addr: u64, len: u64) {
        if len == 0 {
            return;
        }
        let (first, last) = (addr / PAGE, addr.saturating_add(len - 1) / PAGE);
        for number in first / PAGES_OF_WORD..=last / PAGES_OF_WORD {
            let Some(word) = self.word(number) else { return };
            let start = number * PAGES_OF_WORD;
            let low = first.saturating_sub(start);
            let high = (last - start).min(PAGES_OF_WORD - 1);
            let bits = u64::MAX >> (PAGES_OF_WORD - 1 - (high - low)) << low;
            word.fetch_or(bits.to_le(), Ordering::SeqCst);
        }
    }

    /// Takes the marks of the 64 pages from 64·`number`: bit `n` for the `n`th of them.
    pub fn take(&self, number: u64) -> u64 {
        match self.word(number) {
            // A look first: a word that nobody writes stays in every processor's cache.
            Some(word) if word.load(Ordering::SeqCst) != 0 => {
                u64::from_le(word.swap(0, Ordering::SeqCst))
            }
            _ => 0,
        }
    }

    /// Takes the mark of the page at guest address `addr`.
    pub fn take_page(&self, addr: u64) -> bool {
        let page = addr / PAGE;
        let bit = (1u64 << (page % PAGES_OF_WORD)).to_le();
        let word = self.word(page / PAGES_OF_WORD);
        word.is_some_and(|word| word.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
    }

    fn word(&self, number: u64) -> Option<&AtomicU64> {
        let number = usize::try_from(number).ok().filter(|_| number < self.words)?;
        self.mapping.atomic_u64(self.lead + number * 8).ok()
    }
}

/// Where a process's writes are logged, if they are: one for a guest's memory, shared by all that is made
/// from it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    is_on: AtomicBool,
    pages: RwLock<Option<Arc<WrittenPages>>>,
}

impl Log {
    pub fn set(&self, pages: Option<Arc<WrittenPages>>) {
        let is_on = pages.is_some();
        *self.pages.write().unwrap_or_else(PoisonError::into_inner) = pages;
        self.is_on.store(is_on, Ordering::Release);
    }

    pub fn get(&self) -> Option<Arc<WrittenPages>> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// To be called behind each write.
    #[inline]
    pub fn note(&self, addr: u64, len: usize) {
        if self.is_on.load(Ordering::Acquire) {
            self.mark(addr, len);
        }
    }

    #[cold]
    fn mark(&self, addr: u64, len: usize) {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pages) = &*pages {
            pages.mark(addr, len as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(len: u64) -> WrittenPages {
        let fd = bulkhead_sys::memfd::create_sealed("written", len).unwrap();
        WrittenPages::map(&fd, 0, len).unwrap()
    }

    #[test]
    fn a_log_has_a_bit_for_each_page_up_to_the_end_of_ram() {
        let bytes = |ram| WrittenPages::len_of(&RamLayout::new(ram).unwrap());
        assert_eq!(bytes(4096), 8);
        assert_eq!(bytes(64 * 4096), 8);
        assert_eq!(bytes(65 * 4096), 16);
        assert_eq!(bytes(5 << 30), (6 << 30) / 4096 / 8, "the hole has bits, too");
    }

    #[test]
    fn marks_are_those_of_the_pages_that_are_touched() {
        let log = log(64);
        log.mark(0xfff, 1);
        assert_eq!((log.take(0), log.take(0)), (1, 0));
        log.mark(0xfff, 2);
        assert_eq!(log.take(0), 0b11);
        log.mark(63 << 12, 2 << 12);
        assert_eq!((log.take(0), log.take(1)), (1 << 63, 1));
        log.mark(0, 130 << 12);
        assert_eq!((log.take(0), log.take(1), log.take(2)), (u64::MAX, u64::MAX, 0b11));
        log.mark(0x5000, 0);
        assert_eq!(log.take(0), 0);
    }

    #[test]
    fn what_the_log_has_no_bits_for_is_not_marked() {
        let log = log(8);
        log.mark(63 << 12, 1 << 40);
        assert_eq!(log.take(0), 1 << 63);
        log.mark(u64::MAX - 1, u64::MAX);
        assert_eq!((log.take(0), log.take(1), log.take(u64::MAX)), (0, 0, 0));
    }

    #[test]
    fn one_page_is_taken_alone() {
        let log = log(8);
        log.mark(0, 3 << 12);
        assert!(log.take_page(0x1abc));
        assert!(!log.take_page(0x1000));
        assert_eq!(log.take(0), 0b101);
    }

    #[test]
    fn a_log_may_begin_within_its_object() {
        let fd = bulkhead_sys::memfd::create_sealed("written", 3 * 4096).unwrap();
        let log = WrittenPages::map(&fd, 4096 + 16, 64).unwrap();
        log.mark(0x3000, 1);
        let object = SharedMapping::map(&fd, 3 * 4096, Rights::ReadWrite).unwrap();
        let mut byte = [0];
        object.copy_in(4096 + 16, &mut byte).unwrap();
        assert_eq!(byte, [1 << 3]);
        for (offset, len) in [(4, 64), (0, 7), (u64::MAX - 4096, u64::MAX)] {
            assert!(WrittenPages::map(&fd, offset, len).is_err(), "{offset} {len}");
        }
    }
}
