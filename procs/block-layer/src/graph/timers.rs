//! Tasks that wait for a time. Equal times end in the order in which their waits began.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;
use std::time::Instant;

#[derive(Debug)]
struct Timer {
    until: Instant,
    /// Timers set before.
    set: u64,
    waker: Waker,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        (self.until, self.set) == (other.until, other.set)
    }
}

impl Eq for Timer {}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.until, self.set).cmp(&(other.until, other.set))
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
    set: u64,
}

impl Timers {
    pub(super) fn set(&mut self, until: Instant, waker: Waker) {
        self.set += 1;
        let set = self.set;
        self.heap.push(Reverse(Timer { until, set, waker }));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(timer)| timer.until)
    }

    /// Wakes those whose time has come.
    pub(super) fn wake(&mut self, now: Instant) {
        while self.next().is_some_and(|until| until <= now) {
            if let Some(Reverse(timer)) = self.heap.pop() {
                timer.waker.wake();
            }
        }
    }

    /// Wakes all: something else than the time may have ended their wait. The order is kept.
    pub(super) fn wake_all(&mut self) {
        while let Some(Reverse(timer)) = self.heap.pop() {
            timer.waker.wake();
        }
    }
}
