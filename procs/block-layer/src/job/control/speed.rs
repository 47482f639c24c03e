//! A job's speed: so many bytes in each tenth of a second, as QEMU counts it.
//!
//! A step larger than a slice's share is made all the same, and the slices it used up are waited for.

use std::cell::Cell;
use std::time::Duration;

/// A slice of time.
const SLICE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Speed {
    /// Bytes a second; 0: no limit.
    speed: Cell<u64>,
    /// Until when what has passed is enough.
    until: Cell<Duration>,
    /// Begin of the slice, and what passed in it.
    begin: Cell<Duration>,
    passed: Cell<u64>,
}

impl Speed {
    pub(super) fn new(speed: u64) -> Self {
        let (until, begin) = (Cell::default(), Cell::default());
        Self { speed: Cell::new(speed), until, begin, passed: Cell::new(0) }
    }

    pub(super) fn get(&self) -> u64 {
        self.speed.get()
    }

    pub(super) fn set(&self, speed: u64) {
        self.speed.set(speed);
        self.until.set(Duration::ZERO);
        self.passed.set(0);
    }

    /// Until when the next step is to wait.
    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        (self.speed.get() > 0 && now < self.until.get()).then(|| self.until.get())
    }

    /// A step of so many bytes is made.
    pub(super) fn pass(&self, bytes: u64, now: Duration) {
        let speed = self.speed.get();
        if speed == 0 {
            return;
        }
        if now >= self.begin.get() + SLICE {
            self.begin.set(now);
            self.passed.set(0);
        }
        let passed = self.passed.get() + bytes;
        self.passed.set(passed);
        let share = (speed / 10).max(1);
        if passed >= share {
            let slices = u32::try_from(passed / share).unwrap_or(u32::MAX);
            self.until.set(self.begin.get() + SLICE.saturating_mul(slices));
        }
    }
}
