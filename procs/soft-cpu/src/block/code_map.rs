//! From which bytes of RAM code was decoded: 64 bits for each page, one for each 64 bytes.
//!
//! The grain keeps data beside code cheap: a write to such a page takes the slow way, but only a write
//! to a decoded chunk drops anything.

use crate::memory::ram::PAGE;

/// Bytes that a bit stands for.
const CHUNK: u64 = PAGE / 64;

/// The map.
#[derive(Debug)]
pub(super) struct CodeMap {
    pages: Vec<u64>,
}

impl CodeMap {
    /// No code in any of `pages` pages.
    pub(super) fn new(pages: u64) -> Self {
        Self { pages: vec![0; pages as usize] }
    }

    /// The chunks of a page that hold code.
    pub(super) fn chunks(&self, page: u64) -> u64 {
        self.pages.get(page as usize).copied().unwrap_or(0)
    }

    /// Adds chunks to a page.
    pub(super) fn add(&mut self, page: u64, chunks: u64) {
        if let Some(entry) = self.pages.get_mut(page as usize) {
            *entry |= chunks;
        }
    }

    /// There is no code in the page any more.
    pub(super) fn clear(&mut self, page: u64) {
        if let Some(entry) = self.pages.get_mut(page as usize) {
            *entry = 0;
        }
    }

    /// There is no code at all any more.
    pub(super) fn clear_all(&mut self) {
        self.pages.fill(0);
    }

    /// The chunks that `size` bytes (at least one) from `address` touch within its page.
    pub(super) fn mask(address: u64, size: usize) -> u64 {
        let first = address % PAGE / CHUNK;
        let last = ((address % PAGE + size as u64 - 1) / CHUNK).min(63);
        u64::MAX >> (63 - (last - first)) << first
    }
}
