//! How much of something a process may have per second.
//!
//! Used for log lines and messages of helpers, which may be taken over and flood.

use std::time::Instant;

/// A bucket that refills evenly.
#[derive(Debug)]
pub struct Allowance {
    per_second: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    /// Full at first: `most` at once, `per_second` in the long run.
    pub fn new(now: Instant, per_second: u32, most: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            most: f64::from(most),
            left: f64::from(most),
            at: now,
        }
    }

    /// Takes one; `false` if none is left.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.most);
        self.at = now;
        let one = self.left >= 1.0;
        if one {
            self.left -= 1.0;
        }
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_gets_the_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start, 10, 5);
        let granted =
            |allowance: &mut Allowance, now| (0..100).filter(|_| allowance.take(now)).count();
        assert_eq!(granted(&mut allowance, start), 5);
        assert_eq!(granted(&mut allowance, start + Duration::from_millis(200)), 2);
        assert_eq!(granted(&mut allowance, start + Duration::from_secs(60)), 5);
    }
}
