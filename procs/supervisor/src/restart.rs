//! When a helper that died gets its successor.
//!
//! Called by the live instance once per death, after the reap. A pure state machine that is told the
//! time, one for each post.
//!
//! ```text
//!             fault: at once, then 10 ms·2ᵏ up to 5 s
//!           ┌──────┐
//!           ▼      │        5 faults in 10 s
//!        Healthy ──┴──────────────────────────► Degraded ──┐ a try every 30 s
//!           ▲                                      │  ▲     │
//!           └──────────── progress ────────────────┘  └─────┘
//!
//!        any state ── second death by the filter ──► Quarantined, for good
//! ```
//!
//! Law: only the helper's own faults count. A SIGKILL from outside (an operator, a test, the
//! out-of-memory killer) says nothing about the helper, so the successor comes at once, however often; nor does the
//! end of one that waits for something outside, which is tried as often as that allows.
//! Progress, or 100 ms of answered idleness, makes the past forgotten; deaths by the filter are never
//! forgotten, since an attacker can make progress too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bulkhead_sys::pidfd::Death;

/// First back-off; each further one is twice as long.
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);

/// Longest back-off.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// This many faults within [`WINDOW`] make a post degraded.
const FAULTS: usize = 5;

/// See [`FAULTS`].
const WINDOW: Duration = Duration::from_secs(10);

/// A degraded post is tried again this often.
const RETRY: Duration = Duration::from_secs(30);

/// Deaths by the filter that a post survives.
const SECURITY_DEATHS: u32 = 1;

/// Whose doing a death was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// SIGSEGV, SIGBUS, an exit code, a missed heartbeat, a broken protocol.
    OwnFault,
    /// Its filter killed it.
    Security,
    /// SIGKILL that was not ours.
    Outside,
    /// It could not do yet what it is for, and the supervisor ended it: the next one comes after this time.
    Retired(Duration),
}

impl Cause {
    /// Judges a death. `condemned`: the supervisor itself killed it, for a fault of its own.
    pub fn of(death: Death, condemned: bool) -> Self {
        match death {
            Death::Signaled(libc::SIGSYS) => Self::Security,
            Death::Signaled(libc::SIGKILL) if !condemned => Self::Outside,
            _ => Self::OwnFault,
        }
    }
}

/// What to do about a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start the successor at once.
    Now,
    /// Start it after this time.
    After(Duration),
    /// Start it after this time, and tell the guest that its device is gone for now.
    Degraded(Duration),
    /// Start none.
    Quarantined,
}

/// The record of one post.
#[derive(Debug, Default)]
pub struct Restart {
    health: Health,
    security_deaths: u32,
}

#[derive(Debug)]
enum Health {
    Healthy {
        /// Times of the faults within the window, oldest first.
        recent: VecDeque<Instant>,
        /// Faults since the last progress.
        streak: u32,
    },
    Degraded,
    Quarantined,
}

impl Default for Health {
    fn default() -> Self {
        Self::Healthy { recent: VecDeque::new(), streak: 0 }
    }
}

impl Restart {
    /// A process of this post was reaped.
    pub fn died(&mut self, now: Instant, cause: Cause) -> Verdict {
        if cause == Cause::Security {
            self.security_deaths += 1;
            if self.security_deaths > SECURITY_DEATHS {
                self.health = Health::Quarantined;
            }
        }
        match (&mut self.health, cause) {
            (Health::Quarantined, _) => Verdict::Quarantined,
            (_, Cause::Outside | Cause::Security) => Verdict::Now,
            (_, Cause::Retired(pause)) => Verdict::After(pause),
            (Health::Degraded, Cause::OwnFault) => Verdict::Degraded(RETRY),
            (Health::Healthy { recent, streak }, Cause::OwnFault) => {
                recent.push_back(now);
                while recent
                    .front()
                    .is_some_and(|first| now.saturating_duration_since(*first) > WINDOW)
                {
                    recent.pop_front();
                }
                if recent.len() >= FAULTS {
                    self.health = Health::Degraded;
                    return Verdict::Degraded(RETRY);
                }
                *streak += 1;
                match back_off(*streak) {
                    Duration::ZERO => Verdict::Now,
                    wait => Verdict::After(wait),
                }
            }
        }
    }

    /// The present process completed a request or idled 100 ms.
    pub fn progressed(&mut self) {
        if !matches!(self.health, Health::Quarantined) {
            self.health = Health::default();
        }
    }

    /// Whether the post is only tried from time to time.
    pub fn is_degraded(&self) -> bool {
        matches!(self.health, Health::Degraded)
    }

    /// Whether the post gets no successor any more.
    pub fn is_quarantined(&self) -> bool {
        matches!(self.health, Health::Quarantined)
    }
}

/// Wait before the successor after the `streak`th fault in a row.
fn back_off(streak: u32) -> Duration {
    match streak {
        0 | 1 => Duration::ZERO,
        more => {
            // 2⁹ · 10 ms is above the limit already.
            let doublings = (more - 2).min(9);
            (FIRST_BACK_OFF * (1 << doublings)).min(LONGEST_BACK_OFF)
        }
    }
}

#[cfg(test)]
mod tests;
