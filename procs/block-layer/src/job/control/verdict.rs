//! What a job does about a failure: its error policy, and the wait that may come of it.

use std::time::Duration;

use super::{Control, Ended, JobEvent};
use crate::disk::{Action, OnError};
use crate::outcome::Failure;

/// How long a job waits before it tries again by itself.
const ANOTHER_TRY: Duration = Duration::from_secs(1);

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What the job reads.
    Source,
    /// What it writes.
    Target,
}

impl Control {
    /// Decides about a failure. When it returns, what failed is to be done again: it has waited, for a while or
    /// for somebody to resume the job. An error: the job is to end.
    ///
    /// `ignore` is tried again as well, as in QEMU: a copy that lacks something is none. What fails in a job that was
    /// cancelled before is nobody's trouble.
    pub async fn failed(&self, side: Side, failure: Failure) -> Result<(), Ended> {
        if self.is_cancelled() {
            return Err(Ended::Cancelled);
        }
        let action = self.policy(side).action(failure);
        // It is told once, however often it is tried.
        if self.waits_after.get() != Some(failure) {
            self.events.borrow_mut().push(JobEvent::Failed { side, failure, action });
        }
        match action {
            Action::Report => return Err(failure.into()),
            Action::Ignore => self.wait(self.clock.now() + ANOTHER_TRY).await,
            Action::WaitForSpace => {
                self.wait_after(failure);
                self.wait(self.clock.now() + ANOTHER_TRY).await;
            }
            Action::Stop => {
                self.wait_after(failure);
                self.until(|| self.waits_after.get().is_none()).await;
            }
        }
        if self.is_cancelled() { Err(Ended::Cancelled) } else { Ok(()) }
    }

    /// Whether a job that can do so is to go on behind a failure, which is told.
    pub(in crate::job) fn passes_over(&self, side: Side, failure: Failure) -> bool {
        let action = self.policy(side).action(failure);
        let passes = action == Action::Ignore;
        if passes {
            self.events.borrow_mut().push(JobEvent::Failed { side, failure, action });
        }
        passes
    }

    fn wait_after(&self, failure: Failure) {
        self.waits_after.set(Some(failure));
        self.tell_state();
    }

    fn policy(&self, side: Side) -> OnError {
        let settings = self.settings.get();
        match side {
            Side::Source => settings.on_source_error,
            Side::Target => settings.on_target_error,
        }
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
    pub(in crate::job) async fn insist<T>(
        &self,
        step: impl AsyncFn() -> Result<T, (Side, Failure)>,
    ) -> Result<T, Ended> {
        loop {
            match step().await {
                Ok(done) => {
                    self.succeeded();
                    return Ok(done);
                }
                Err((side, failure)) => self.failed(side, failure).await?,
            }
        }
    }
}
