//! A node that lets requests wait that come too fast, by QEMU's leaky buckets ([`bucket`]).
//!
//! Disks of a group share the [`Levels`], and so what passes in a time; each member is such a node, in a
//! process of its own. Reads of a disk wait behind reads and writes behind writes, in the order in which they
//! came; members of a group wait for their share without an order.

mod bucket;
mod levels;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bucket::{Bucket, WHOLE};
use bulkhead_protocol::filters::Limits;
pub use levels::{Levels, LevelsError};

use crate::clock::{Clock, wait_for};
use crate::disk::Operation;
use crate::outcome::Outcome;
use crate::task::RangeLock;

/// Longest sleep: limits may change meanwhile.
const LOOK_UP: Duration = Duration::from_secs(1);

/// The node.
#[derive(Debug, Default)]
pub struct Throttle {
    limits: Cell<Limits>,
    levels: Levels,
    reads: RangeLock,
    writes: RangeLock,
}

impl Throttle {
    /// One with these limits.
    pub fn new(limits: Limits) -> Self {
        Self::with(limits, Levels::default())
    }

    /// A member of a group that has these levels.
    pub fn with(limits: Limits, levels: Levels) -> Self {
        Self { limits: Cell::new(limits), levels, ..Self::default() }
    }

    /// Other limits, from now on.
    pub fn set(&self, limits: Limits) {
        self.limits.set(limits);
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.limits.get()
    }

    pub(super) async fn admit(
        &self,
        operation: &Operation,
        clock: &Rc<dyn Clock>,
        revoked: &AtomicBool,
    ) -> Outcome {
        let write = operation.changes();
        if matches!(operation, Operation::Flush | Operation::Status { .. }) {
            return Ok(());
        }
        let range = operation.range();
        let bytes = range.end - range.start;
        let queue = if write { &self.writes } else { &self.reads };
        let _turn = queue.hold_all().await;
        loop {
            let Some(wait) = self.pass(write, bytes, self.levels.now(clock.now())) else {
                return Ok(());
            };
            wait_for(clock, clock.now() + wait.min(LOOK_UP), revoked).await?;
        }
    }

    /// Lets a request pass, or says how long it has to wait.
    fn pass(&self, write: bool, bytes: u64, now: Duration) -> Option<Duration> {
        let limits = self.limits.get();
        let requests = match limits.request_size {
            0 => WHOLE,
            size => (u128::from(bytes) * WHOLE / u128::from(size)).max(WHOLE),
        };
        let size = u128::from(bytes) * WHOLE;
        let Limits { bytes: all_bytes, read_bytes, written_bytes, .. } = limits;
        let Limits { requests: all_requests, reads, writes, .. } = limits;
        let concerned = match write {
            true => [
                (0, all_bytes, size),
                (2, written_bytes, size),
                (3, all_requests, requests),
                (5, writes, requests),
            ],
            false => [
                (0, all_bytes, size),
                (1, read_bytes, size),
                (3, all_requests, requests),
                (4, reads, requests),
            ],
        };
        let buckets = concerned.map(|(number, limit, units)| {
            let (level, burst_level) = (2 * number, 2 * number + 1);
            (Bucket { limit, level, burst_level }, units)
        });
        let waits = buckets.iter().map(|(bucket, _)| bucket.wait(&self.levels, now));
        let wait = waits.max().unwrap_or_default();
        if !wait.is_zero() {
            return Some(wait);
        }
        for (bucket, units) in buckets {
            bucket.fill(&self.levels, units, now);
        }
        None
    }
}

#[cfg(test)]
mod tests;
