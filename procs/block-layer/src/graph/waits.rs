//! Flights that wait for a time. Equal times end in the order in which they began.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::FlightId;

#[derive(Debug, PartialEq, Eq)]
struct Wait {
    until: Instant,
    /// Waits begun before.
    begun: u64,
    flight: FlightId,
}

impl Ord for Wait {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.until, self.begun).cmp(&(other.until, other.begun))
    }
}

impl PartialOrd for Wait {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
pub(super) struct Waits {
    heap: BinaryHeap<Reverse<Wait>>,
    begun: u64,
}

impl Waits {
    pub(super) fn push(&mut self, until: Instant, flight: FlightId) {
        self.begun += 1;
        let begun = self.begun;
        self.heap.push(Reverse(Wait { until, begun, flight }));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(wait)| wait.until)
    }

    /// The next flight whose wait is over by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<FlightId> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(wait)| wait.flight)
    }

    /// Takes out the flights of which `which` is true, in no order.
    pub(super) fn take_if(&mut self, which: impl Fn(FlightId) -> bool) -> Vec<FlightId> {
        let mut taken = Vec::new();
        self.heap.retain(|Reverse(wait)| {
            let take = which(wait.flight);
            if take {
                taken.push(wait.flight);
            }
            !take
        });
        taken
    }
}
