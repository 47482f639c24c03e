//! The monotonic clock and deadlines. Every wait between two processes has a [`Deadline`].

use std::time::{Duration, Instant};

/// A point in monotonic time after which a wait has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline that lies `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout)
    }

    /// The deadline at the instant `at`.
    pub fn at(at: Instant) -> Self {
        Self(at)
    }

    /// The instant itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Time left, zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// Time left in milliseconds for `poll`, rounded up so that a wait never ends early.
    pub fn poll_timeout(self) -> i32 {
        let left = self.remaining();
        let millis = left.as_micros().div_ceil(1000);
        i32::try_from(millis).unwrap_or(i32::MAX)
    }
}

/// Time since the host began, the same for all processes of its.
pub fn monotonic() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_millisecond_rest_still_waits() {
        let deadline = Deadline::after(Duration::from_micros(1_500));
        assert!(deadline.poll_timeout() >= 1);
    }

    #[test]
    fn a_passed_deadline_has_nothing_left() {
        let deadline = Deadline::after(Duration::ZERO);
        assert!(deadline.has_passed());
        assert_eq!(deadline.poll_timeout(), 0);
    }
}
