//! One queue's part of an in-flight table as words in shared memory.
//!
//! Law: all places are computed from the plan's numbers and lie inside, since the table was made for
//! them; an access that is outside all the same (a bug) reads 0 and writes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhead_sys::mapping::SharedMapping;

/// A part of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Words {
    mapping: Arc<SharedMapping>,
    base: usize,
    len: usize,
}

impl Words {
    pub(super) fn new(mapping: Arc<SharedMapping>, base: usize, len: usize) -> Self {
        Self { mapping, base, len }
    }

    fn place(&self, offset: usize) -> usize {
        if offset < self.len { self.base + offset } else { usize::MAX }
    }

    /// Writes zeroes over all of it.
    pub(super) fn zero(&self) {
        let _ = self.mapping.zero(self.base, self.len);
    }
}

/// Loads acquire and stores release: a successor sees the stores in the order in which they were
/// made. On x86 both are plain moves.
macro_rules! words {
    ($load:ident, $store:ident, $word:ty, $atomic:ident) => {
        impl Words {
            #[inline]
            pub(super) fn $load(&self, offset: usize) -> $word {
                let word = self.mapping.$atomic(self.place(offset));
                word.map_or(0, |word| word.load(Ordering::Acquire))
            }

            #[inline]
            pub(super) fn $store(&self, offset: usize, value: $word) {
                #[cfg(test)]
                super::death::may_come();
                if let Ok(word) = self.mapping.$atomic(self.place(offset)) {
                    word.store(value, Ordering::Release);
                }
                #[cfg(test)]
                super::death::may_come();
            }
        }
    };
}

words!(load_u8, store_u8, u8, atomic_u8);
words!(load_u16, store_u16, u16, atomic_u16);
words!(load_u32, store_u32, u32, atomic_u32);
words!(load_u64, store_u64, u64, atomic_u64);
