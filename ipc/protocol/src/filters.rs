//! What stands in front of a disk: limits, faults and delays, as its user asks for them and as its block
//! layer gets them.
//!
//! Called filters, as in QEMU: a request passes them unchanged, later or not at all. Part of
//! [`crate::spec`], of [`crate::block`] and of [`crate::block_control`].
//!
//! Law: [`Filters::check`] and [`Limits::check`] hold for everything that the supervisor takes over.

use serde::{Deserialize, Serialize};

/// Most rules of faults of a disk.
pub const MOST_FAULTS: usize = 64;

/// Longest delay in milliseconds.
pub const LONGEST_DELAY: u32 = 60_000;

/// Most units a second; QEMU's.
const MOST_UNITS: u64 = 1_000_000_000_000_000;

/// All filters of a disk. None by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Filters {
    /// Milliseconds that every request waits before it is performed: to rehearse recovery.
    pub delay_ms: u32,
    /// Limits.
    pub limits: Limits,
    /// What is read from below becomes the top layer's own.
    pub copy_on_read: bool,
    /// Requests that are made to fail or to wait: to rehearse what a guest does then.
    pub faults: Vec<Fault>,
}

/// One limit. QEMU's `-total`, `-total-max` and `-total-max-length`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Units a second; 0: unlimited.
    pub average: u64,
    /// Units a second in a burst; 0: no bursts but of a tenth of a second.
    pub burst: u64,
    /// Seconds that a burst may last; 0 is 1.
    pub burst_seconds: u64,
}

/// The limits of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of all requests.
    pub bytes: Limit,
    /// Bytes read.
    pub read_bytes: Limit,
    /// Bytes written.
    pub written_bytes: Limit,
    /// Requests.
    pub requests: Limit,
    /// Reads.
    pub reads: Limit,
    /// Writes.
    pub writes: Limit,
    /// Bytes that count as one request; a larger one counts as several. 0: any number.
    pub request_size: u64,
}

/// A rule: which requests, and what happens to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which kind of request.
    pub on: FaultOn,
    /// First byte of a range of which a request touches at least one.
    pub at: u64,
    /// Bytes of the range; 0: up to the disk's end, and from 0 requests without a range as well.
    pub len: u64,
    /// How many of those requests pass first.
    pub after: u64,
    /// For how many it happens then; 0: for all.
    pub times: u64,
    /// What happens.
    pub then: FaultThen,
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultOn {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Write-zeroes.
    Zero,
    /// Discards.
    Discard,
    /// Flushes.
    Flush,
    /// All of them.
    Any,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultThen {
    /// It fails with this errno.
    Fail(u16),
    /// It waits so many milliseconds.
    Wait(u32),
}

/// Why filters are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFilters {
    /// A total and one of its parts.
    #[error("a limit of all requests goes with none of reads or writes alone")]
    TotalAndPart,
    /// A burst without an average.
    #[error("a limit of bursts needs one of the average")]
    BurstAlone,
    /// A burst slower than the average.
    #[error("a burst is no slower than the average")]
    SlowBurst,
    /// A length without a burst.
    #[error("a length of bursts needs a limit of bursts")]
    LengthAlone,
    /// A size without a limit of requests.
    #[error("a size of requests needs a limit of requests")]
    SizeAlone,
    /// A number that no disk reaches.
    #[error("a limit is above {MOST_UNITS} a second")]
    Large,
    /// Too long a wait.
    #[error("a delay is longer than {LONGEST_DELAY} milliseconds")]
    Delay,
    /// Too many rules.
    #[error("there are more than {MOST_FAULTS} rules of faults")]
    Faults,
    /// An errno that is none.
    #[error("an errno is 1 to 4095")]
    Errno,
}

impl Limits {
    /// All of them.
    fn all(&self) -> [Limit; 6] {
        [self.bytes, self.read_bytes, self.written_bytes, self.requests, self.reads, self.writes]
    }

    /// Whether they go together, by QEMU's rules.
    pub fn check(&self) -> Result<(), BadFilters> {
        let Self { bytes, read_bytes, written_bytes, requests, reads, writes, .. } = self;
        for (total, parts) in [(bytes, [read_bytes, written_bytes]), (requests, [reads, writes])] {
            let part = |of: fn(&Limit) -> u64| of(total) > 0 && parts.iter().any(|p| of(p) > 0);
            if part(|limit| limit.average) || part(|limit| limit.burst) {
                return Err(BadFilters::TotalAndPart);
            }
        }
        self.all().iter().try_for_each(Limit::check)?;
        let counts = [requests, reads, writes].iter().any(|limit| limit.average > 0);
        if self.request_size > 0 && !counts {
            return Err(BadFilters::SizeAlone);
        }
        Ok(())
    }
}

impl Limit {
    fn check(&self) -> Result<(), BadFilters> {
        let Self { average, burst, burst_seconds } = *self;
        if average.max(burst).max(burst.saturating_mul(burst_seconds)) > MOST_UNITS {
            return Err(BadFilters::Large);
        }
        if burst_seconds > 1 && burst == 0 {
            return Err(BadFilters::LengthAlone);
        }
        match burst {
            0 => Ok(()),
            _ if average == 0 => Err(BadFilters::BurstAlone),
            burst if burst < average => Err(BadFilters::SlowBurst),
            _ => Ok(()),
        }
    }
}

impl Filters {
    /// Whether everything is within its limits.
    pub fn check(&self) -> Result<(), BadFilters> {
        self.limits.check()?;
        if self.delay_ms > LONGEST_DELAY {
            return Err(BadFilters::Delay);
        }
        if self.faults.len() > MOST_FAULTS {
            return Err(BadFilters::Faults);
        }
        self.faults.iter().try_for_each(|fault| match fault.then {
            FaultThen::Wait(time) if time > LONGEST_DELAY => Err(BadFilters::Delay),
            FaultThen::Fail(errno) if !(1..4096).contains(&errno) => Err(BadFilters::Errno),
            FaultThen::Wait(_) | FaultThen::Fail(_) => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(average: u64, burst: u64, burst_seconds: u64) -> Limit {
        Limit { average, burst, burst_seconds }
    }

    #[test]
    fn limits_go_together_or_are_refused() {
        let requests = |requests| Limits { requests, ..Limits::default() }.check();
        assert_eq!(requests(limit(100, 200, 5)), Ok(()));
        assert_eq!(requests(limit(0, 200, 1)), Err(BadFilters::BurstAlone));
        assert_eq!(requests(limit(100, 50, 1)), Err(BadFilters::SlowBurst));
        assert_eq!(requests(limit(100, 0, 2)), Err(BadFilters::LengthAlone));
        assert_eq!(requests(limit(u64::MAX, 0, 0)), Err(BadFilters::Large));
        let one = limit(1, 0, 0);
        let both = Limits { bytes: one, read_bytes: one, ..Limits::default() };
        assert_eq!(both.check(), Err(BadFilters::TotalAndPart));
        let parts = Limits { written_bytes: one, read_bytes: one, ..Limits::default() };
        assert_eq!(parts.check(), Ok(()));
        let size = Limits { request_size: 4096, bytes: one, ..Limits::default() };
        assert_eq!(size.check(), Err(BadFilters::SizeAlone));
    }

    #[test]
    fn delays_and_faults_have_limits() {
        let rule = |then| Fault { on: FaultOn::Any, at: 0, len: 0, after: 0, times: 0, then };
        let of = |then, count| Filters { faults: vec![rule(then); count], ..Filters::default() };
        assert_eq!(of(FaultThen::Fail(5), MOST_FAULTS).check(), Ok(()));
        assert_eq!(of(FaultThen::Fail(5), MOST_FAULTS + 1).check(), Err(BadFilters::Faults));
        assert_eq!(of(FaultThen::Fail(0), 1).check(), Err(BadFilters::Errno));
        assert_eq!(of(FaultThen::Wait(LONGEST_DELAY + 1), 1).check(), Err(BadFilters::Delay));
    }
}
