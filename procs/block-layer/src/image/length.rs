//! How long the file is, and making it longer and shorter.
//!
//! A direct write behind the end of a file has the file for itself, and finds its blocks while it has it:
//! dozens of requests wait for each other there, a tenth as many come through. In room that the file has
//! already they pass side by side.

use std::sync::atomic::Ordering;

use bulkhead_protocol::spec::CacheMode;
use bulkhead_sys::file::{self, FileKind};

use super::Image;
use crate::outcome::{Failure, Outcome};

impl Image {
    /// How long the file is now.
    pub fn size_now(&self) -> Result<u64, Failure> {
        Ok(file::size(&self.file)?)
    }

    /// Whether writing beyond its end makes it longer.
    pub fn grows(&self) -> bool {
        self.kind == FileKind::Regular
    }

    /// Whether it pays to make room before it is written to.
    pub fn wants_room(&self) -> bool {
        self.grows() && !self.in_memory && self.cache == CacheMode::None
    }

    /// Whether the file is known to be that long, without asking the host.
    #[inline]
    pub fn reaches(&self, end: u64) -> bool {
        self.length.load(Ordering::Relaxed) >= end
    }

    /// Something was written up to `end`.
    #[inline]
    pub(super) fn reached(&self, end: u64) {
        if !self.reaches(end) {
            self.length.fetch_max(end, Ordering::Relaxed);
        }
    }

    /// Room from `at` on, which the host keeps for this file; it reads as zeroes.
    pub(super) fn make_room(&self, at: u64, len: u64) -> Outcome {
        file::reserve(&self.file, at, len)?;
        self.reached(at + len);
        Ok(())
    }

    /// The file ends there. Nobody uses what lies behind.
    pub(super) fn cut(&self, end: u64) -> Outcome {
        self.length.store(end, Ordering::Relaxed);
        Ok(file::set_size(&self.file, end)?)
    }
}
