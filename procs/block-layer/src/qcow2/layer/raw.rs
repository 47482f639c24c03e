//! A file or block device as it is, or a part of one: byte `n` of the disk is byte `start + n` of the file.

use std::cell::Cell;

use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// What is written at the end of a file to make it longer.
const SECTOR: u64 = 512;

/// Greatest block of a device.
const PAGE: u64 = 4096;

/// The layer.
#[derive(Debug)]
pub struct RawLayer<S> {
    storage: S,
    start: u64,
    size: Cell<u64>,
    /// It is a part that ends where its user said.
    bounded: bool,
}

impl<S: Storage> RawLayer<S> {
    /// `size` bytes from `start` on; `bounded`: what is behind them is somebody else's.
    pub fn new(storage: S, start: u64, size: u64, bounded: bool) -> Self {
        Self { storage, start, size: Cell::new(size), bounded }
    }

    /// The same bytes by another descriptor of the file.
    pub fn again(&self, storage: S) -> Self {
        Self::new(storage, self.start, self.size.get(), self.bounded)
    }

    /// Its file.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// The first byte of the disk in its file.
    pub fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn size(&self) -> u64 {
        self.size.get()
    }

    pub(super) async fn read(&self, at: u64, into: Memory) -> Outcome {
        self.storage.read(self.start + at, into).await
    }

    pub(super) async fn write(&self, at: u64, from: Memory) -> Outcome {
        self.storage.write(self.start + at, from).await
    }

    pub(super) async fn discard(&self, at: u64, len: u64) -> Outcome {
        self.storage.discard(self.start + at, len).await
    }

    pub(super) async fn zero(&self, at: u64, len: u64, unmap: bool) -> Outcome {
        let at = self.start + at;
        match unmap {
            true => self.storage.zero(at, len).await,
            false => self.storage.zero_in_place(at, len).await,
        }
    }

    /// Grows only: the bytes behind the end are not ours to cut off, and a device does not grow.
    pub(super) async fn resize(&self, size: u64) -> Outcome {
        let old = self.size.get();
        let may_grow = self.storage.grows() && !self.bounded;
        if size < old || !size.is_multiple_of(SECTOR) || (size > old && !may_grow) {
            return Err(Failure::UNSUPPORTED);
        }
        if size > old {
            // As much as a device wants that is written directly, if there is as much.
            let whole = size.is_multiple_of(PAGE) && size - PAGE >= old;
            let len = if whole { PAGE } else { SECTOR };
            let last = Memory::from(Heap::zeroes(len as usize));
            let end = self.start.checked_add(size).ok_or(Failure::TOO_LARGE)?;
            if size - len < old {
                // A disk that ended within this sector has bytes there.
                self.storage.read(end - len, last.clone()).await?;
            }
            self.storage.write(end - len, last).await?;
        }
        self.size.set(size);
        Ok(())
    }
}
