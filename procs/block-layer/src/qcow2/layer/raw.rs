//! A file or block device as it is: byte `n` of the disk is byte `n` of the file.

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
    size: Cell<u64>,
}

impl<S: Storage> RawLayer<S> {
    pub(super) fn new(storage: S, size: u64) -> Self {
        Self { storage, size: Cell::new(size) }
    }

    /// Its file.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    pub(super) fn size(&self) -> u64 {
        self.size.get()
    }

    pub(super) async fn zero(&self, at: u64, len: u64, unmap: bool) -> Outcome {
        match unmap {
            true => self.storage.zero(at, len).await,
            false => self.storage.zero_in_place(at, len).await,
        }
    }

    /// Grows only: the bytes behind the end are not ours to cut off, and a device does not grow.
    pub(super) async fn resize(&self, size: u64) -> Outcome {
        let old = self.size.get();
        if size < old || !size.is_multiple_of(SECTOR) || (size > old && !self.storage.grows()) {
            return Err(Failure::UNSUPPORTED);
        }
        if size > old {
            // As much as a device wants that is written directly, if there is as much.
            let whole = size.is_multiple_of(PAGE) && size - PAGE >= old;
            let len = if whole { PAGE } else { SECTOR };
            let last = Memory::from(Heap::zeroes(len as usize));
            self.storage.write(size - len, last).await?;
        }
        self.size.set(size);
        Ok(())
    }
}
