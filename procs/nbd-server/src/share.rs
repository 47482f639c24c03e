//! Who holds how much of the arena.
//!
//! Each client has a share of its own, and beside those there is a pool for whoever needs more. So a client
//! that never takes what it asked for has at most the pool's greatest share in addition to its own, and
//! everybody else goes on.

use bulkhead_ring::ArenaSpan;

use crate::limits::{GREATEST_SHARE, MOST_CLIENTS, OWN_SHARE};
use crate::owner::BlockLink;

/// Smallest span that is asked for when there is none of the size that is wanted.
const LEAST: u64 = 4096;

/// What is left of the pool.
#[derive(Debug)]
pub struct Pool {
    left: u64,
}

/// What one client holds.
#[derive(Debug, Default)]
pub struct Share {
    held: u64,
}

impl Pool {
    /// The pool of an arena of `arena` bytes.
    pub fn new(arena: u64) -> Self {
        Self { left: arena.saturating_sub(MOST_CLIENTS as u64 * OWN_SHARE) }
    }
}

impl Share {
    /// A span of up to `want` bytes, whole pages if it is not all of them; `None`: not now.
    pub fn take(&mut self, link: &mut BlockLink, pool: &mut Pool, want: u64) -> Option<ArenaSpan> {
        let mut len = want;
        loop {
            let beyond = beyond(self.held + len) - beyond(self.held);
            let fits = self.held + len <= GREATEST_SHARE && beyond <= pool.left;
            if let Some(span) = fits.then(|| link.take_span(len)).flatten() {
                self.held += len;
                pool.left -= beyond;
                return Some(span);
            }
            if len <= LEAST {
                return None;
            }
            len = (len / 2).next_multiple_of(LEAST);
        }
    }

    /// `len` bytes came back.
    pub fn give_back(&mut self, pool: &mut Pool, len: u64) {
        let held = self.held.saturating_sub(len);
        pool.left += beyond(self.held) - beyond(held);
        self.held = held;
    }

    /// The client is gone.
    pub fn give_all_back(&mut self, pool: &mut Pool) {
        self.give_back(pool, self.held);
    }
}

fn beyond(held: u64) -> u64 {
    held.saturating_sub(OWN_SHARE)
}
