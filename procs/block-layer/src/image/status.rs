//! Where a file has data and where it has holes.

use std::io;

use bulkhead_ring::Arena;
use bulkhead_sys::file::{self, FileKind, Presence};

use super::Image;
use crate::memory::Memory;
use crate::outcome::Outcome;
use crate::request::Span;
use crate::status::Extents;

impl Image {
    /// Tells the holes of a range. A device, and a file system that cannot say, has none.
    pub(super) fn status(&self, at: u64, len: u64, span: Span, arena: &Arena) -> Outcome {
        let mut extents = Extents::new();
        let end = at + len;
        let mut next = at;
        while next < end && extents.has_room() {
            let (presence, until) = self.presence(next, end);
            let is_hole = presence == Presence::Hole;
            // A raw image is one layer, which has all of its bytes.
            extents.push(until - next, 1, is_hole, is_hole);
            next = until;
        }
        extents.put(&Memory::Arena { arena: arena.clone(), span })
    }

    fn presence(&self, at: u64, end: u64) -> (Presence, u64) {
        if self.kind != FileKind::Regular {
            return (Presence::Data, end);
        }
        let found: io::Result<(Presence, u64)> = file::presence(&self.file, at);
        match found {
            Ok((presence, until)) if until > at => (presence, until.min(end)),
            _ => (Presence::Data, end),
        }
    }
}
