//! The answer to a status request: extents, one after the other.
//!
//! Law: neighbours of one kind are one extent, and what is told begins where the range does. An answer may
//! end early; whoever wants more asks again from there.

use bulkhead_protocol::block_ring::{STATUS_HOLE, STATUS_MOST, STATUS_ZERO, StatusExtent};
use zerocopy::IntoBytes;

use crate::memory::Memory;
use crate::outcome::Outcome;

/// Most ranges that are looked at for one answer, however many of them are one extent: others wait.
const MOST_LOOKS: usize = 4 * STATUS_MOST;

/// See the module.
#[derive(Debug, Default)]
pub struct Extents {
    all: Vec<StatusExtent>,
    looks: usize,
}

impl Extents {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether one more may be told.
    pub fn has_room(&self) -> bool {
        self.all.len() < STATUS_MOST && self.looks < MOST_LOOKS
    }

    /// The next range: its layer, whether it takes no room, and whether it reads as zeroes.
    pub fn push(&mut self, len: u64, depth: u32, hole: bool, zero: bool) {
        let flags = if hole { STATUS_HOLE } else { 0 } | if zero { STATUS_ZERO } else { 0 };
        self.push_as(len, depth, flags);
    }

    /// The next range, as it is told.
    pub fn push_as(&mut self, len: u64, depth: u32, flags: u32) {
        let room = self.has_room();
        self.looks += 1;
        match self.all.last_mut() {
            Some(last) if (last.depth, last.flags) == (depth, flags) => last.len += len,
            _ if room => self.all.push(StatusExtent { len, depth, flags }),
            _ => {}
        }
    }

    /// Writes them where they are wanted, with an end behind them.
    pub fn put(mut self, into: &Memory) -> Outcome {
        if self.all.len() < STATUS_MOST {
            self.all.push(StatusExtent::default());
        }
        into.copy_from(self.all.as_slice().as_bytes())
    }
}
