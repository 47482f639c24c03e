//! Where the data of an operation is: in a ring's arena, or on the heap.
//!
//! Nodes hand pieces of it on to storage and seldom look inside; a worker thread that is in the middle
//! of a call keeps its piece alive by holding a clone. Heap memory starts on a page, as direct I/O
//! wants it.
//!
//! Law: a piece never grows. What lies outside of it is out of reach of whoever got it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_ring::Arena;

use crate::outcome::Failure;
use crate::request::Span;

/// Alignment of heap memory.
const PAGE: usize = 4096;

/// A piece of memory.
#[derive(Debug, Clone)]
pub enum Memory {
    /// A span of a ring's arena, which its peer may change at any time.
    Arena {
        /// Whose.
        arena: Arena,
        /// Which part.
        span: Span,
    },
    /// Private memory.
    Heap(Heap),
}

/// A piece of private memory. Clones and parts share the bytes.
#[derive(Debug, Clone)]
pub struct Heap {
    bytes: Arc<Mutex<Vec<u8>>>,
    start: usize,
    len: usize,
}

impl Heap {
    /// `len` zeroes.
    pub fn zeroes(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().addr().wrapping_neg() % PAGE;
        Self { bytes: Arc::new(Mutex::new(bytes)), start, len }
    }

    /// A copy of `from`.
    pub fn copy_of(from: &[u8]) -> Self {
        let heap = Self::zeroes(from.len());
        heap.with(|bytes| bytes.copy_from_slice(from));
        heap
    }

    /// Its length.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Looks at the bytes or changes them. Nobody else can meanwhile.
    pub fn with<T>(&self, look: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut bytes = self.lock();
        look(&mut bytes[self.start..self.start + self.len])
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.with(|bytes| bytes.to_vec())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Heap> for Memory {
    fn from(heap: Heap) -> Self {
        Self::Heap(heap)
    }
}

/// Looks at whole words at a time: pieces of images are long.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |seen, byte| seen | byte) == 0)
}

impl Memory {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Arena { span, .. } => u64::from(span.len),
            Self::Heap(heap) => heap.len as u64,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The piece of `len` bytes at `offset`; what lies outside is cut off.
    pub fn part(&self, offset: u64, len: u64) -> Self {
        let offset = offset.min(self.len());
        let len = len.min(self.len() - offset);
        match self {
            Self::Arena { arena, span } => {
                // Both are at most the span's length, which is a u32.
                let span = Span { offset: span.offset + offset as u32, len: len as u32 };
                Self::Arena { arena: arena.clone(), span }
            }
            Self::Heap(heap) => Self::Heap(Heap {
                bytes: Arc::clone(&heap.bytes),
                start: heap.start + offset as usize,
                len: len as usize,
            }),
        }
    }

    /// Copies its first bytes to `to`.
    pub fn copy_to(&self, to: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::Arena { arena, span } => {
                let slice = arena.check(span.offset.into(), to.len().min(span.len as usize) as u64);
                let slice = slice.map_err(|_| Failure::INVALID)?;
                slice.copy_in(to).map_err(|_| Failure::INVALID)
            }
            Self::Heap(heap) => heap.with(|bytes| {
                let bytes = bytes.get(..to.len()).ok_or(Failure::INVALID)?;
                to.copy_from_slice(bytes);
                Ok(())
            }),
        }
    }

    /// Copies `from` to its first bytes.
    pub fn copy_from(&self, from: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Arena { arena, span } => {
                let len = from.len().min(span.len as usize) as u64;
                let slice = arena.check(span.offset.into(), len).map_err(|_| Failure::INVALID)?;
                slice.copy_out(from).map_err(|_| Failure::INVALID)
            }
            Self::Heap(heap) => heap.with(|bytes| {
                let bytes = bytes.get_mut(..from.len()).ok_or(Failure::INVALID)?;
                bytes.copy_from_slice(from);
                Ok(())
            }),
        }
    }

    /// Whether all of it is zeroes. Of an arena, which its peer may change meanwhile, it says nothing.
    pub fn is_zero(&self) -> Result<bool, Failure> {
        match self {
            Self::Heap(heap) => Ok(heap.with(|bytes| is_zero(bytes))),
            Self::Arena { .. } => Ok(false),
        }
    }

    /// Makes all of it zeroes.
    pub fn zero(&self) -> Result<(), Failure> {
        match self {
            Self::Arena { arena, span } => {
                let slice = arena.check(span.offset.into(), span.len.into());
                slice.and_then(|slice| slice.zero()).map_err(|_| Failure::INVALID)
            }
            Self::Heap(heap) => {
                heap.with(|bytes| bytes.fill(0));
                Ok(())
            }
        }
    }

    /// Copies all of it to `to`, which is as long.
    pub fn copy_into(&self, to: &Self) -> Result<(), Failure> {
        match to {
            Self::Heap(heap) => heap.with(|bytes| self.copy_to(bytes)),
            Self::Arena { .. } => {
                let mut bytes = vec![0; self.len() as usize];
                self.copy_to(&mut bytes)?;
                to.copy_from(&bytes)
            }
        }
    }
}
