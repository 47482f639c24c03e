//! A node that lets requests wait that come too fast, by QEMU's leaky buckets ([`bucket`]).
//!
//! One of these is a group: disks that share it share its limits. Reads wait behind reads and writes
//! behind writes, in the order in which they came.

mod bucket;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bucket::Bucket;
use bulkhead_protocol::filters::Limits;

use crate::clock::{Clock, wait_for};
use crate::disk::Operation;
use crate::outcome::Outcome;
use crate::task::RangeLock;

/// Longest sleep: limits may change meanwhile.
const LOOK_UP: Duration = Duration::from_secs(1);

/// The node.
#[derive(Debug, Default)]
pub struct Throttle {
    state: RefCell<State>,
    reads: RangeLock,
    writes: RangeLock,
}

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    /// In the order of [`Limits`].
    buckets: [Bucket; 6],
    leaked: Duration,
}

impl Throttle {
    /// A group with these limits.
    pub fn new(limits: Limits) -> Self {
        let throttle = Self::default();
        throttle.set(limits);
        throttle
    }

    /// Other limits, from now on.
    pub fn set(&self, limits: Limits) {
        let state = &mut *self.state.borrow_mut();
        let Limits { bytes, read_bytes, written_bytes, requests, reads, writes, .. } = limits;
        let limit = [bytes, read_bytes, written_bytes, requests, reads, writes];
        state.buckets = limit.map(Bucket::new);
        state.limits = limits;
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.state.borrow().limits
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
            let wait = self.state.borrow_mut().pass(write, bytes, clock.now());
            let Some(wait) = wait else {
                return Ok(());
            };
            wait_for(clock, clock.now() + wait.min(LOOK_UP), revoked).await?;
        }
    }
}

impl State {
    /// Lets a request pass, or says how long it has to wait.
    fn pass(&mut self, write: bool, bytes: u64, now: Duration) -> Option<Duration> {
        let time = now.saturating_sub(self.leaked);
        self.leaked = now;
        self.buckets.iter_mut().for_each(|bucket| bucket.leak(time));
        let size = self.limits.request_size;
        let requests = match size {
            0 => 1.0,
            size => (bytes as f64 / size as f64).max(1.0),
        };
        let other = if write { 1 } else { 2 };
        let concerned = |index: usize| index % 3 != other;
        let buckets = self.buckets.iter_mut().enumerate();
        let mut concerned: Vec<(usize, &mut Bucket)> =
            buckets.filter(|(index, _)| concerned(*index)).collect();
        let wait = concerned.iter().map(|(_, bucket)| bucket.wait()).max().unwrap_or_default();
        if !wait.is_zero() {
            return Some(wait);
        }
        for (index, bucket) in &mut concerned {
            bucket.fill(if *index < 3 { bytes as f64 } else { requests });
        }
        None
    }
}

#[cfg(test)]
mod tests;
