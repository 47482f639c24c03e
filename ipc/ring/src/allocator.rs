//! Who uses which pages of the arena: the client's private book.
//!
//! Only the client allocates; the server is told offsets. The book is in the client's own memory, so
//! a hostile server cannot make two requests share a page.
//!
//! A page that was never touched costs no memory, so pages come back last in, first out, and fresh
//! ones from the bottom: an arena has the size of the worst case and the price of the usual one.
//! The bitmap is the truth; the stack of single pages is a hint in front of it that may be stale.
//!
//! Absent on purpose: anything smaller than a page, splitting a request over several spans (a request
//! waits for a contiguous one; when all others are finished there is one), and waiting itself.

mod bits;

use bits::Bits;

use crate::geometry::PAGE;

/// Longest span that can be asked for, in bytes.
pub const LONGEST_SPAN: u64 = 1 << 20;

/// Why there is no span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSpan {
    /// Nothing was asked for.
    #[error("a span has at least one byte")]
    Empty,
    /// More was asked for than [`LONGEST_SPAN`] or than the arena has: it will never fit.
    #[error("{0:#x} bytes never fit")]
    TooLong(u64),
    /// Not now: other requests use the pages. Wait for one to complete.
    #[error("no {0:#x} contiguous bytes are free now")]
    Exhausted(u64),
}

/// A span came back to an allocator that had not given it out: a bug (it belongs to an older arena).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the span of {len:#x} bytes at offset {offset:#x} is not in use in this arena")]
pub struct FreeError {
    /// Offset in the arena.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Pages in use by one request. Not `Clone`: it can be given back only once.
#[must_use = "a span that is dropped is lost to the arena"]
#[derive(Debug, PartialEq, Eq)]
pub struct ArenaSpan {
    first: usize,
    len: u64,
}

impl ArenaSpan {
    /// Offset of the first byte in the arena, a multiple of [`PAGE`].
    pub fn offset(&self) -> u64 {
        self.first as u64 * PAGE
    }

    /// Length in bytes, as asked for.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// A span is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    fn pages(&self) -> usize {
        self.len.div_ceil(PAGE) as usize
    }
}

/// The client's book of an arena's pages.
#[derive(Debug)]
pub struct ArenaAllocator {
    free: Bits,
    /// Single pages that came back, the hottest on top. May name pages that are in use again.
    hot: Vec<usize>,
    /// Pages that are in `hot`, so that none is there twice.
    in_hot: Bits,
    pages: usize,
    /// All pages below are in use.
    lowest: usize,
    used: usize,
}

impl ArenaAllocator {
    /// A book of `arena_len` bytes, all free. A rest that is no whole page is never given out.
    pub fn new(arena_len: u64) -> Self {
        let pages = (arena_len / PAGE) as usize;
        let (free, in_hot) = (Bits::ones(pages), Bits::zeroes(pages));
        Self { free, hot: Vec::with_capacity(pages), in_hot, pages, lowest: 0, used: 0 }
    }

    /// Bytes in use, in whole pages.
    pub fn used(&self) -> u64 {
        self.used as u64 * PAGE
    }

    /// Gives out `len` contiguous bytes, from a page's beginning.
    pub fn alloc(&mut self, len: u64) -> Result<ArenaSpan, NoSpan> {
        let pages = len.div_ceil(PAGE) as usize;
        if pages == 0 {
            return Err(NoSpan::Empty);
        }
        if len > LONGEST_SPAN || pages > self.pages {
            return Err(NoSpan::TooLong(len));
        }
        let first = if pages == 1 { self.one_page() } else { self.run(pages) };
        let first = first.ok_or(NoSpan::Exhausted(len))?;
        self.free.clear(first, pages);
        self.used += pages;
        Ok(ArenaSpan { first, len })
    }

    /// Takes a span back.
    pub fn free(&mut self, span: ArenaSpan) -> Result<(), FreeError> {
        let (first, pages) = (span.first, span.pages());
        let inside = first.checked_add(pages).is_some_and(|end| end <= self.pages);
        if !inside || self.free.next_one(first).is_some_and(|page| page < first + pages) {
            return Err(FreeError { offset: span.offset(), len: span.len });
        }
        self.free.set(first, pages);
        self.used -= pages;
        self.lowest = self.lowest.min(first);
        if pages == 1 && !self.in_hot.get(first) {
            self.in_hot.set(first, 1);
            self.hot.push(first);
        }
        Ok(())
    }

    /// The page that was free last, or else the lowest free one.
    fn one_page(&mut self) -> Option<usize> {
        while let Some(page) = self.hot.pop() {
            self.in_hot.clear(page, 1);
            if self.free.get(page) {
                return Some(page);
            }
        }
        let page = self.free.next_one(self.lowest)?;
        self.lowest = page;
        Some(page)
    }

    /// The lowest free run of `pages`.
    fn run(&mut self, pages: usize) -> Option<usize> {
        let mut first = self.free.next_one(self.lowest)?;
        self.lowest = first;
        loop {
            let end = self.free.next_zero(first);
            if end - first >= pages {
                return Some(first);
            }
            first = self.free.next_one(end)?;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
