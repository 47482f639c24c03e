//! Bits that a job may be using: an incremental backup copies what they say, and they begin anew if it succeeds.
//!
//! ```text
//!          claim           begin                      renew
//! Idle ──────────▶ Busy ──────────▶ Busy, later: {} ─────────▶ Idle, with what was set later
//!   ▲                │                   │ a failure, a death
//!   └────────────────┴───────────────────┘ release: as if there had been no job
//! ```
//!
//! While a job uses them nothing is taken out, and what is written meanwhile is set in both: whatever happens to
//! the job, or to the process, the bits say at least what must be copied.

use super::Bits;

/// A job uses the bits already, or still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job uses it")]
pub struct Busy;

/// See the module.
#[derive(Debug, Clone)]
pub struct Marks {
    bits: Bits,
    /// What was set since a job began.
    later: Option<Bits>,
}

impl From<Bits> for Marks {
    fn from(bits: Bits) -> Self {
        Self { bits, later: None }
    }
}

impl Marks {
    /// The bits as they are.
    pub fn bits(&self) -> &Bits {
        &self.bits
    }

    /// The same, to be changed by others than writes of the disk.
    pub fn bits_mut(&mut self) -> &mut Bits {
        &mut self.bits
    }

    /// The disk was written there; how many granules were clear.
    pub fn record(&mut self, at: u64, len: u64) -> u64 {
        if let Some(later) = &mut self.later {
            later.set(at, len);
        }
        self.bits.set(at, len)
    }

    /// The disk has another size.
    pub fn resize(&mut self, size: u64) {
        self.bits.resize(size);
        if let Some(later) = &mut self.later {
            later.resize(size);
        }
    }

    /// Whether a job uses them.
    pub fn is_busy(&self) -> bool {
        self.later.is_some()
    }

    /// A job uses them from now on.
    pub fn claim(&mut self) -> Result<(), Busy> {
        match self.later {
            Some(_) => Err(Busy),
            None => {
                self.later = Some(self.nothing());
                Ok(())
            }
        }
    }

    /// The moment of the job that claimed them: what it copies.
    pub fn begin(&mut self) -> Bits {
        self.later = Some(self.nothing());
        self.bits.clone()
    }

    /// The job has copied everything, but for what is in `left`.
    pub fn renew(&mut self, left: Option<&Bits>) {
        if let Some(later) = self.later.take() {
            self.bits = later;
            left.into_iter().for_each(|left| self.bits.merge(left));
        }
    }

    /// The job does not use them any more.
    pub fn release(&mut self) {
        self.later = None;
    }

    fn nothing(&self) -> Bits {
        Bits::new(self.bits.size(), self.bits.granularity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn marked() -> Marks {
        let mut marks = Marks::from(Bits::new(SIZE, 4096));
        marks.record(0, 8192);
        marks
    }

    fn dirty(marks: &Marks) -> Vec<u64> {
        (0..SIZE).step_by(4096).filter(|at| marks.bits().is_dirty(*at)).collect()
    }

    #[test]
    fn a_job_that_succeeds_leaves_what_was_written_meanwhile() {
        let mut marks = marked();
        marks.claim().unwrap();
        marks.record(65536, 1);
        let copied = marks.begin();
        marks.record(4096, 1);
        marks.record(131_072, 1);
        assert!(copied.is_dirty(65536) && !copied.is_dirty(131_072));
        assert_eq!(dirty(&marks), [0, 4096, 65536, 131_072], "nothing is taken out before the end");
        marks.renew(None);
        assert_eq!(dirty(&marks), [4096, 131_072]);
        assert!(!marks.is_busy());
    }

    #[test]
    fn a_job_that_fails_leaves_everything() {
        let mut marks = marked();
        marks.claim().unwrap();
        assert_eq!(marks.claim(), Err(Busy));
        let copied = marks.begin();
        marks.record(65536, 1);
        let mut again = marks.clone();
        marks.release();
        assert_eq!(dirty(&marks), [0, 4096, 65536]);
        let mut left = copied;
        left.clear(0, 4096);
        again.renew(Some(&left));
        assert_eq!(dirty(&again), [4096, 65536], "what was copied is clean");
    }
}
