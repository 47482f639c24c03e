//! From which bytes of RAM code was decoded, by any vCPU: 64 bits for each page, one for each 64 bytes.
//!
//! The grain keeps data beside code cheap: a write to such a page takes the slow way, but only a write
//! to a decoded chunk drops anything.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ram::PAGE;

/// Bytes that a bit stands for.
const CHUNK: u64 = PAGE / 64;

/// The map, shared by a machine's vCPUs.
#[derive(Debug)]
pub(crate) struct CodeMap {
    pages: Vec<AtomicU64>,
}

impl CodeMap {
    /// No code in any of `pages` pages.
    pub(crate) fn new(pages: u64) -> Self {
        Self { pages: (0..pages).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The chunks of a page that hold code.
    pub(crate) fn chunks(&self, page: u64) -> u64 {
        self.pages.get(page as usize).map_or(0, |page| page.load(Ordering::SeqCst))
    }

    /// Adds chunks to a page; those that it had before.
    pub(crate) fn add(&self, page: u64, chunks: u64) -> u64 {
        self.pages.get(page as usize).map_or(0, |page| page.fetch_or(chunks, Ordering::SeqCst))
    }

    /// There is no code in the page any more.
    pub(crate) fn clear(&self, page: u64) {
        if let Some(page) = self.pages.get(page as usize) {
            page.store(0, Ordering::SeqCst);
        }
    }

    /// There is no code anywhere any more.
    pub(crate) fn clear_all(&self) {
        self.pages.iter().for_each(|page| page.store(0, Ordering::SeqCst));
    }

    /// The chunks that `size` bytes (at least one) from `address` touch within its page.
    pub(crate) fn mask(address: u64, size: usize) -> u64 {
        let first = address % PAGE / CHUNK;
        let last = ((address % PAGE + size as u64 - 1) / CHUNK).min(63);
        u64::MAX >> (63 - (last - first)) << first
    }
}
