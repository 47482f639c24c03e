//! What is due when.
//!
//! Used by the live instance's loop, which sleeps until the first one. A timer cannot be cancelled:
//! whoever takes one compares what it names (a ticket, a number) with what is so now, and drops it if
//! that is past.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Timers of type `T`, soonest first; of equal times the one set first.
#[derive(Debug)]
pub struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    set: u64,
}

#[derive(Debug)]
struct Entry<T> {
    due: Instant,
    order: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

impl<T> Timers<T> {
    /// None yet.
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), set: 0 }
    }

    /// Makes `what` due at `due`.
    pub fn set(&mut self, due: Instant, what: T) {
        self.set += 1;
        let order = self.set;
        self.heap.push(Reverse(Entry { due, order, what }));
    }

    /// When the first one is due.
    pub fn first(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.due)
    }

    /// Takes the first one that is due at `now`.
    pub fn take_due(&mut self, now: Instant) -> Option<T> {
        if self.first()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.what)
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_come_in_order_of_time_and_then_of_setting() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::new();
        for (ms, what) in [(20, 'c'), (10, 'a'), (10, 'b'), (30, 'd')] {
            timers.set(at(ms), what);
        }
        assert_eq!(timers.first(), Some(at(10)));
        assert_eq!(timers.take_due(at(9)), None);
        let due: String = std::iter::from_fn(|| timers.take_due(at(20))).collect();
        assert_eq!(due, "abc");
        assert_eq!(timers.first(), Some(at(30)));
    }
}
