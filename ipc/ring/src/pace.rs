//! How long an end of a ring looks again before it says that it sleeps.
//!
//! A pure state machine: the caller brings the clock, does what [`Pace::next`] says and reports back.
//! The rules are measurements (two processes on a machine of two CPUs):
//!
//! - On one CPU a spin only keeps the peer from running: never. One `sched_yield` hands the CPU over
//!   for less than a sleep and a wake-up cost, so one is tried before arming. A second gains little
//!   when all is quiet and loses three orders of magnitude beside a busy thread, which gets the CPU
//!   for a whole time slice each time. So each yield is timed, and after a long one there is none
//!   for a while.
//! - On different CPUs a wake-up takes longer than most answers: spin about as long as it would take.
//!   A spin that never finds work is warmth and nothing else, so after a few in a row only every
//!   so-manieth wait begins with one.

use std::time::Duration;

/// A yield that took longer gave the CPU to somebody else than the peer.
const SLOW_YIELD: Duration = Duration::from_micros(50);

/// First pause in yielding after a slow one; it doubles with each slow one that follows.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause: beside a thread that is always busy, one slice of it is lost so often.
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);

/// About what a wake-up of an idle CPU takes (45 to 90 µs were measured).
const SPIN: Duration = Duration::from_micros(50);

/// Spins in vain after which most waits begin without one.
const VAIN_SPINS: u32 = 4;

/// Of the waits after that, every this many-th begins with a spin all the same.
const PROBE_EVERY: u32 = 16;

/// What to do now, the ring having been found empty.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Look again at once (after a pause instruction).
    Spin,
    /// Call `sched_yield`, tell [`Pace::yielded`] how long it took, look again.
    YieldOnce,
    /// Arm, look again, sleep.
    Arm,
}

/// Where in a wait this end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// In none: the last look found work.
    None,
    Spinning {
        until: Duration,
    },
    Yielded,
    Armed,
}

/// The pace of one waiting thread. All times are since any fixed instant of a monotonic clock.
#[derive(Debug)]
pub struct Pace {
    wait: Wait,
    /// No yields before this time.
    yields_from: Duration,
    /// How long the next slow yield stops them.
    pause: Duration,
    /// Spins in a row that found nothing.
    vain: u32,
    /// Waits without a spin since the last one with.
    unspun: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

impl Pace {
    /// A thread that has not waited yet.
    pub const fn new() -> Self {
        Self {
            wait: Wait::None,
            yields_from: Duration::ZERO,
            pause: SHORTEST_PAUSE,
            vain: 0,
            unspun: 0,
        }
    }

    /// The ring is empty: what now? `same_cpu`: whether the peer last ran on this thread's CPU.
    pub fn next(&mut self, same_cpu: bool, now: Duration) -> Step {
        self.wait = match self.wait {
            Wait::None => self.begin(same_cpu, now),
            Wait::Spinning { until } if !same_cpu && now < until => self.wait,
            Wait::Spinning { .. } => {
                self.vain = self.vain.saturating_add(1);
                Wait::Armed
            }
            Wait::Yielded | Wait::Armed => Wait::Armed,
        };
        match self.wait {
            Wait::Spinning { .. } => Step::Spin,
            Wait::Yielded => Step::YieldOnce,
            Wait::None | Wait::Armed => Step::Arm,
        }
    }

    fn begin(&mut self, same_cpu: bool, now: Duration) -> Wait {
        if same_cpu {
            return if now < self.yields_from { Wait::Armed } else { Wait::Yielded };
        }
        if self.may_spin() { Wait::Spinning { until: now + SPIN } } else { Wait::Armed }
    }

    /// The yield that was asked for took `took` and ended `now`.
    pub fn yielded(&mut self, took: Duration, now: Duration) {
        if took <= SLOW_YIELD {
            self.pause = SHORTEST_PAUSE;
            return;
        }
        self.yields_from = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// A look found work: the wait, if there was one, is over.
    #[inline]
    pub fn found(&mut self) {
        if matches!(self.wait, Wait::Spinning { .. }) {
            self.vain = 0;
        }
        self.wait = Wait::None;
    }

    fn may_spin(&mut self) -> bool {
        if self.vain < VAIN_SPINS {
            return true;
        }
        self.unspun = (self.unspun + 1) % PROBE_EVERY;
        self.unspun == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
