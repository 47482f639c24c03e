//! The gate of a disk: requests under way are counted, and a change waits until there are none.
//!
//! ```text
//! request ── enter ──▶ (under way) ── leave
//! change  ── close ──▶ waits for the last to leave ──▶ alone with the disk ──▶ opens again
//! ```
//!
//! Law: nobody waits for a request of the same disk while he is under way in it, so closing always
//! ends. What may wait without end (throttling, a full host) waits in front of the gate.

use std::cell::Cell;

use crate::task::Waiting;

/// See the module.
#[derive(Debug, Default)]
pub struct Gate {
    under_way: Cell<u64>,
    /// Changes that want it closed.
    closed: Cell<u32>,
    waiting: Waiting,
}

/// A request under way, until this is dropped.
#[derive(Debug)]
pub struct Passage<'a>(&'a Gate);

/// A closed gate, until this is dropped.
#[derive(Debug)]
pub struct Closed<'a>(&'a Gate);

impl Gate {
    /// Waits while it is closed.
    pub async fn enter(&self) -> Passage<'_> {
        self.waiting.until(|| self.closed.get() == 0).await;
        self.under_way.set(self.under_way.get() + 1);
        Passage(self)
    }

    /// Closes it at once, and waits until nothing is under way. Several may have it closed.
    pub async fn close(&self) -> Closed<'_> {
        self.closed.set(self.closed.get() + 1);
        let closed = Closed(self);
        self.waiting.until(|| self.under_way.get() == 0).await;
        closed
    }

    /// Requests under way.
    pub fn under_way(&self) -> u64 {
        self.under_way.get()
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        if self.0.under_way.get() == 0 && self.0.closed.get() > 0 {
            self.0.waiting.wake();
        }
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.closed.set(self.0.closed.get() - 1);
        if self.0.closed.get() == 0 {
            self.0.waiting.wake();
        }
    }
}
