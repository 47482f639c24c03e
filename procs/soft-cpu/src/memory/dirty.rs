//! Which pages of RAM the vCPUs have written: a bit a page, for who copies a machine that runs.
//!
//! A store that hits the TLB says nothing to anybody. So while the log is on, a page has a write tag only if its bit is
//! set: the first store to it takes the slow way, which sets the bit. Who takes the bits then takes all write tags.
//!
//! ```text
//!  vCPU    miss ─► bit ─► write tag ─► store, store, store …        miss ─► bit …
//!  taker                               bits ─► drop write tags, wait ─┘  ─► copy the pages
//! ```
//!
//! Law: bit, then tag, then store; and the taker waits until each vCPU has dropped its tags before it copies. So a
//! store is either in what is copied, or in a later round. Nothing is added to a store that hits.
//!
//! Absent on purpose: what other processes write. Devices have a log of their own (`bulkhead_memory::WrittenPages`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The log, shared by a machine's vCPUs. Pages by their number, counted over all regions.
#[derive(Debug)]
pub(crate) struct DirtyLog {
    is_on: AtomicBool,
    words: Box<[AtomicU64]>,
}

fn place(page: u64) -> (usize, u64) {
    ((page / 64) as usize, 1 << (page % 64))
}

impl DirtyLog {
    /// Of so many pages; off.
    pub(crate) fn new(pages: u64) -> Self {
        let words = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { is_on: AtomicBool::new(false), words }
    }

    /// Nothing is noted yet, and everything from now on. Write tags have to be taken.
    pub(crate) fn start(&self) {
        self.words.iter().for_each(|word| word.store(0, Ordering::SeqCst));
        self.is_on.store(true, Ordering::SeqCst);
    }

    /// Nothing is noted any more.
    pub(crate) fn stop(&self) {
        self.is_on.store(false, Ordering::SeqCst);
    }

    /// A page is about to be written, or was just written by who has no tag.
    #[inline]
    pub(crate) fn note(&self, page: u64) {
        if self.is_on.load(Ordering::SeqCst) {
            let (word, bit) = place(page);
            if let Some(word) = self.words.get(word) {
                word.fetch_or(bit, Ordering::SeqCst);
            }
        }
    }

    /// Whether a page may have a write tag: its bit is set, or nobody asks.
    #[inline]
    pub(crate) fn permits(&self, page: u64) -> bool {
        let (word, bit) = place(page);
        !self.is_on.load(Ordering::SeqCst)
            || self.words.get(word).is_some_and(|word| word.load(Ordering::SeqCst) & bit != 0)
    }

    /// Takes the bits of `count` pages from `first`: bit `n` for page `first + n`. Write tags have to be taken before
    /// the pages are looked at.
    pub(crate) fn take(&self, first: u64, count: u64) -> Vec<u64> {
        let mut taken = vec![0; count.div_ceil(64) as usize];
        let mut at = 0;
        while at < count {
            let (word, _) = place(first + at);
            let shift = (first + at) % 64;
            let bits = (64 - shift).min(count - at);
            let mask = (u64::MAX >> (64 - bits)) << shift;
            let Some(word) = self.words.get(word) else { break };
            let found = (word.fetch_and(!mask, Ordering::SeqCst) & mask) >> shift;
            let (index, up) = ((at / 64) as usize, at % 64);
            taken[index] |= found << up;
            if up + bits > 64 {
                taken[index + 1] |= found >> (64 - up);
            }
            at += bits;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_taken_once_wherever_the_pages_begin() {
        for first in [0, 1, 63, 64, 70] {
            let log = DirtyLog::new(400);
            log.note(first);
            assert!(log.take(0, 400).iter().all(|word| *word == 0), "it is off");
            log.start();
            let pages: Vec<u64> =
                (0..200).filter(|page| page % 7 == 0 || page % 64 == 63).collect();
            pages.iter().for_each(|page| log.note(first + page));
            let taken = log.take(first, 200);
            let found = (0..200).filter(|page| taken[*page as usize / 64] >> (page % 64) & 1 == 1);
            assert_eq!(found.collect::<Vec<_>>(), pages);
            assert!(log.take(0, 400).iter().all(|word| *word == 0), "nothing else, and once");
        }
    }

    #[test]
    fn a_page_may_be_written_unseen_only_if_it_is_noted_or_nobody_asks() {
        let log = DirtyLog::new(64);
        assert!(log.permits(3));
        log.start();
        assert!(!log.permits(3));
        log.note(3);
        assert!(log.permits(3) && !log.permits(4));
        log.take(0, 64);
        assert!(!log.permits(3));
        log.stop();
        assert!(log.permits(3));
    }
}
