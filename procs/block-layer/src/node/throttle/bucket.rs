//! A leaky bucket with bursts, as QEMU's `docs/throttle.txt` describes it.
//!
//! What passes fills the bucket, and it leaks at the average rate. Nothing passes while it is over its
//! size: as much as a longest burst brings, or what a tenth of a second brings if there are no bursts. In
//! a long burst a second, small bucket that leaks at the burst's rate keeps that rate.

use std::time::Duration;

use bulkhead_protocol::filters::Limit;

/// Of a second: what passes at once without bursts.
const SHORT: f64 = 10.0;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    limit: Limit,
    level: f64,
    burst_level: f64,
}

impl Bucket {
    pub(super) fn new(limit: Limit) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn leak(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        self.level = (self.level - self.limit.average as f64 * time).max(0.0);
        self.burst_level = (self.burst_level - self.limit.burst as f64 * time).max(0.0);
    }

    pub(super) fn fill(&mut self, units: f64) {
        if self.limit.average > 0 {
            self.level += units;
            if self.has_long_bursts() {
                self.burst_level += units;
            }
        }
    }

    /// How long nothing passes.
    pub(super) fn wait(&self) -> Duration {
        let Limit { average, burst, burst_seconds } = self.limit;
        if average == 0 {
            return Duration::ZERO;
        }
        let size = match burst {
            0 => average as f64 / SHORT,
            burst => burst as f64 * burst_seconds.max(1) as f64,
        };
        let over = (self.level - size) / average as f64;
        let over_burst = match self.has_long_bursts() {
            true => (self.burst_level - burst as f64 / SHORT) / burst as f64,
            false => 0.0,
        };
        Duration::from_secs_f64(over.max(over_burst).clamp(0.0, 1e6))
    }

    fn has_long_bursts(&self) -> bool {
        self.limit.burst > 0 && self.limit.burst_seconds > 1
    }
}
