//! Stable storage.

use std::sync::atomic::Ordering;

use bulkhead_protocol::spec::CacheMode;
use bulkhead_sys::file;

use super::Image;
use crate::outcome::{Failure, Outcome};

impl Image {
    /// Whether a flush has anything to do: not for memory, not where the user gave it up.
    pub(super) fn flush_reaches_a_device(&self) -> bool {
        !self.in_memory && self.cache != CacheMode::Unsafe
    }

    /// Waits for the device. A failed flush is final: the kernel drops the pages it could not write
    /// and reports it once, so a later success would vouch for data that is gone.
    pub(super) fn flush(&self) -> Outcome {
        if !self.flush_reaches_a_device() {
            return Ok(());
        }
        if self.unsafe_to_flush.load(Ordering::Acquire) {
            return Err(Failure::IO);
        }
        file::sync_data(&self.file).map_err(|error| {
            self.unsafe_to_flush.store(true, Ordering::Release);
            error.into()
        })
    }
}
