//! How often the supervisor hears of failed requests: a guest may provoke as many as it likes.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Between two that are told.
const REST: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Complaints(Cell<Option<Instant>>);

impl Complaints {
    /// Whether another one may be told now; then it counts.
    pub(super) fn may_tell(&self) -> bool {
        let now = Instant::now();
        let rested = self.0.get().is_none_or(|last| now.duration_since(last) >= REST);
        if rested {
            self.0.set(Some(now));
        }
        rested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_thousand_at_once_one_is_told() {
        let complaints = Complaints::default();
        let told = (0..1000).filter(|_| complaints.may_tell()).count();
        // A machine that stands still for so long hears of a second.
        assert!((1..=2).contains(&told), "{told}");
    }
}
