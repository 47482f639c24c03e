//! Where operations live: chunks that fill up and are emptied all at once.

use super::Key;
use crate::memory::ram::PAGE;
use crate::op::{Next, Op};

/// Slots (operations, links, heads) of a chunk: 256 KiB.
const CHUNK: usize = 8192;

/// Most chunks: 64 MiB for each vCPU.
const CHUNKS: usize = 256;

/// The head of a block, in the slot before its first operation.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Block {
    pub(crate) host: u64,
    /// Host address of the page that its only instruction goes on in; 0: it lies within one page.
    pub(crate) second: u64,
    mode: u32,
    /// How many instructions there are.
    pub(crate) count: u16,
    /// How many bytes they have.
    pub(crate) bytes: u16,
    /// Its compiled code; 0: there is none.
    pub(crate) native: u32,
    /// How often it was executed without.
    pub(crate) heat: u32,
}

const _: () = assert!(size_of::<Block>() == size_of::<Op>());

impl Block {
    pub(super) fn new(key: Key, second: u64, count: u16, bytes: u16) -> Self {
        Self { host: key.host, mode: key.mode, second, count, bytes, native: 0, heat: 0 }
    }

    #[inline(always)]
    pub(super) fn key(&self) -> Key {
        Key { host: self.host, mode: self.mode }
    }

    /// Host address of the page that it begins in.
    #[inline(always)]
    pub(crate) fn page(&self) -> u64 {
        self.host & !(PAGE - 1)
    }

    /// Whether it lies within one page.
    #[inline(always)]
    pub(crate) fn is_whole(&self) -> bool {
        self.second == 0
    }
}

impl Next {
    /// To a block's first operation.
    #[inline(always)]
    pub(super) fn to(block: *const Block) -> Self {
        Self(block.wrapping_add(1).cast())
    }

    /// The head of the block that it leads to.
    #[inline(always)]
    pub(crate) fn block(self) -> *const Block {
        self.0.cast::<Block>().wrapping_sub(1)
    }
}

/// A slot of the arena: whatever is put there has its size and alignment.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) union Slot {
    pub(crate) op: Op,
    pub(super) head: Block,
    pub(crate) link: super::Link,
}

impl Slot {
    /// With nothing in it yet.
    pub(crate) const EMPTY: Self = Self { link: super::Link::EMPTY };
}

/// All chunks.
#[derive(Default)]
pub(crate) struct Arena {
    chunks: Vec<Box<[Slot]>>,
    /// Chunk in use, and slots used of it.
    chunk: usize,
    used: usize,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arena({} chunks)", self.chunks.len())
    }
}

impl Arena {
    /// Whether the next block might not find room.
    pub(super) fn is_full(&self) -> bool {
        self.is_full_for(super::decode::MOST_SLOTS)
    }

    /// Whether so many slots might not find room.
    pub(crate) fn is_full_for(&self, slots: usize) -> bool {
        self.chunk + 1 >= CHUNKS && self.used + slots > CHUNK
    }

    /// Puts a block into the arena; the first slot is its head.
    pub(crate) fn put(&mut self, slots: &[Slot]) -> *const Block {
        if self.used + slots.len() > CHUNK {
            self.chunk += 1;
            self.used = 0;
        }
        if self.chunk >= self.chunks.len() {
            self.chunks.push(vec![Slot::EMPTY; CHUNK].into_boxed_slice());
        }
        let place = &mut self.chunks[self.chunk][self.used..self.used + slots.len()];
        place.copy_from_slice(slots);
        self.used += slots.len();
        place.as_mut_ptr().cast_const().cast()
    }

    /// Everything in it is gone.
    pub(crate) fn empty(&mut self) {
        self.chunk = 0;
        self.used = 0;
    }
}
