//! What a job does about a failure: its error policy, and the wait that may come of it.

use std::time::Duration;

use super::{Control, Ended, JobEvent};
use crate::disk::Action;
use crate::outcome::Failure;

/// How long a job waits for space before it tries again.
const ANOTHER_TRY: Duration = Duration::from_secs(1);

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What the job reads.
    Source,
    /// What it writes.
    Target,
}

/// What a job is to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do it again.
    Again,
    /// Go on as if it had succeeded.
    GoOn,
}

impl Control {
    /// Decides about a failure; waits if that is what the policy says. An error: the job is to end.
    pub async fn failed(&self, side: Side, failure: Failure) -> Result<Verdict, Ended> {
        let settings = self.settings.get();
        let policy = match side {
            Side::Source => settings.on_source_error,
            Side::Target => settings.on_target_error,
        };
        let action = policy.action(failure);
        // It is told once, however often it is tried.
        if self.waits_after.get() != Some(failure) {
            self.events.borrow_mut().push(JobEvent::Failed { side, failure, action });
        }
        match action {
            Action::Report => return Err(failure.into()),
            Action::Ignore => return Ok(Verdict::GoOn),
            Action::Stop | Action::WaitForSpace => {}
        }
        self.waits_after.set(Some(failure));
        self.tell_state();
        match action {
            Action::WaitForSpace => self.wait(self.clock.now() + ANOTHER_TRY).await,
            _ => self.until(|| self.waits_after.get().is_none()).await,
        }
        if self.is_cancelled() { Err(Ended::Cancelled) } else { Ok(Verdict::Again) }
    }

    /// Whether a failure of the target is one to wait after.
    pub(in crate::job) fn waits_for(&self, failure: Failure) -> bool {
        let action = self.settings.get().on_target_error.action(failure);
        matches!(action, Action::WaitForSpace | Action::Stop) && !self.is_cancelled()
    }

    /// What waited was done.
    pub(in crate::job) fn succeeded(&self) {
        if self.waits_after.take().is_some() {
            self.tell_state();
        }
    }

    /// Makes one step until it succeeds or the policy says otherwise.
    pub(in crate::job) async fn insist(
        &self,
        step: impl AsyncFn() -> Result<(), (Side, Failure)>,
    ) -> Result<(), Ended> {
        loop {
            match step().await {
                Ok(()) => {
                    self.succeeded();
                    return Ok(());
                }
                Err((side, failure)) => match self.failed(side, failure).await? {
                    Verdict::Again => {}
                    Verdict::GoOn => return Ok(()),
                },
            }
        }
    }
}
