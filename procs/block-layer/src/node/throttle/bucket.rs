//! A leaky bucket with bursts, as QEMU's `docs/throttle.txt` describes it.
//!
//! What passes fills the bucket, and it leaks at the average rate. Nothing passes while it is over its
//! size: as much as a longest burst brings, or what a tenth of a second brings if there are no bursts. In
//! a long burst a second, small bucket that leaks at the burst's rate keeps that rate.
//!
//! A bucket is kept as the time when it will be empty, so that nobody has to let it leak, and several
//! processes can fill one ([`Levels`]).

use std::time::Duration;

use bulkhead_protocol::filters::Limit;

use super::levels::Levels;

/// What passes at once without bursts, and in the small bucket of a long one.
const SHORT: Duration = Duration::from_millis(100);

/// Parts of a unit in which buckets are filled: a large request counts as so many and a half.
pub(super) const WHOLE: u128 = 1000;

/// A second in nanoseconds.
const SECOND: u128 = 1_000_000_000;

/// The bucket and the small one of `limit`, whose levels are at these places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    pub limit: Limit,
    pub level: usize,
    pub burst_level: usize,
}

impl Bucket {
    pub(super) fn fill(&self, levels: &Levels, parts: u128, now: Duration) {
        if self.limit.average > 0 {
            levels.fill(self.level, now, time(parts, self.limit.average));
            if self.has_long_bursts() {
                levels.fill(self.burst_level, now, time(parts, self.limit.burst));
            }
        }
    }

    /// How long nothing passes.
    pub(super) fn wait(&self, levels: &Levels, now: Duration) -> Duration {
        let Limit { average, burst, burst_seconds } = self.limit;
        if average == 0 {
            return Duration::ZERO;
        }
        let size = match burst {
            0 => SHORT,
            burst => {
                let longest = burst.saturating_mul(burst_seconds.max(1));
                time(u128::from(longest) * WHOLE, average)
            }
        };
        let over = levels.empty_at(self.level).saturating_sub(now + size);
        let over_burst = match self.has_long_bursts() {
            true => levels.empty_at(self.burst_level).saturating_sub(now + SHORT),
            false => Duration::ZERO,
        };
        over.max(over_burst)
    }

    fn has_long_bursts(&self) -> bool {
        self.limit.burst > 0 && self.limit.burst_seconds > 1
    }
}

/// How long so many parts of units take at a rate, at most some centuries.
fn time(parts: u128, rate: u64) -> Duration {
    let nanos = parts * SECOND / WHOLE / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
