//! A ring's shared words in a mapping. All of the crate's unsafe code is here.
//!
//! Law: an address is made once, from an offset that the geometry computed and the mapping checked;
//! what a peer writes never becomes part of an address.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_sys::mapping::{OutOfMapping, SharedMapping};

use crate::algorithm::{AtomicU32, Lines, SLOT_WORDS};
use crate::geometry::{RingPlace, SLOT_LEN};

/// One shared 32-bit word that keeps its mapping alive.
#[derive(Debug)]
pub(crate) struct Word {
    word: NonNull<AtomicU32>,
    _alive: Arc<SharedMapping>,
}

// SAFETY: the pointer is used for atomic access only, and the mapping it points into is itself Send.
unsafe impl Send for Word {}
// SAFETY: as above: atomic access from several threads is what atomics are for.
unsafe impl Sync for Word {}

impl Word {
    pub(crate) fn new(mapping: &Arc<SharedMapping>, offset: usize) -> Result<Self, OutOfMapping> {
        let word = NonNull::from(mapping.atomic_u32(offset)?);
        Ok(Self { word, _alive: Arc::clone(mapping) })
    }

    #[inline]
    pub(crate) fn get(&self) -> &AtomicU32 {
        // SAFETY: it was made from a reference into the mapping, which `_alive` keeps mapped.
        unsafe { self.word.as_ref() }
    }
}

/// The slots of one ring: `slots * SLOT_LEN` bytes, aligned to 8.
#[derive(Debug)]
struct Slots {
    first: NonNull<AtomicU64>,
    /// A power of two.
    count: u32,
    _alive: Arc<SharedMapping>,
}

// SAFETY: the pointer is used for atomic access only, and the mapping it points into is itself Send.
unsafe impl Send for Slots {}

impl Slots {
    fn new(mapping: &Arc<SharedMapping>, offset: usize, count: u32) -> Result<Self, OutOfMapping> {
        debug_assert!(count.is_power_of_two());
        mapping.check(offset, count as usize * SLOT_LEN)?;
        let first = NonNull::from(mapping.atomic_u64(offset)?);
        Ok(Self { first, count, _alive: Arc::clone(mapping) })
    }

    #[inline]
    fn word(&self, index: u32, word: usize) -> &AtomicU64 {
        let slot = (index & (self.count - 1)) as usize;
        // SAFETY: `slot < count` since count is a power of two, and the word is below SLOT_WORDS, so
        // the result is inside the `count * SLOT_LEN` bytes that `new` checked.
        let place = unsafe { self.first.add(slot * SLOT_WORDS + word % SLOT_WORDS) };
        // SAFETY: `place` is aligned and in bounds (above), `_alive` keeps it mapped, and both sides
        // use this memory as atomic words only.
        unsafe { place.as_ref() }
    }
}

/// The shared words of one ring.
#[derive(Debug)]
pub(crate) struct MappedLines {
    tail: Word,
    head: Word,
    armed: Word,
    slots: Slots,
}

impl MappedLines {
    pub(crate) fn new(
        mapping: &Arc<SharedMapping>,
        place: RingPlace,
        entries: u32,
    ) -> Result<Self, OutOfMapping> {
        Ok(Self {
            tail: Word::new(mapping, place.tail)?,
            head: Word::new(mapping, place.head)?,
            armed: Word::new(mapping, place.armed)?,
            slots: Slots::new(mapping, place.slots, entries)?,
        })
    }
}

impl Lines for MappedLines {
    #[inline]
    fn tail(&self) -> &AtomicU32 {
        self.tail.get()
    }

    #[inline]
    fn head(&self) -> &AtomicU32 {
        self.head.get()
    }

    #[inline]
    fn armed(&self) -> &AtomicU32 {
        self.armed.get()
    }

    #[inline]
    fn read(&self, index: u32, word: usize) -> u64 {
        self.slots.word(index, word).load(Ordering::Relaxed)
    }

    #[inline]
    fn write(&self, index: u32, word: usize, value: u64) {
        self.slots.word(index, word).store(value, Ordering::Relaxed);
    }

    #[inline]
    fn slots(&self) -> u32 {
        self.slots.count
    }
}
