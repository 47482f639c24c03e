//! How a server is left that somebody waits for in vain: at once, or when it has had its time.
//!
//! Called by whoever opens a job's target and by whoever cancels a job; nobody leaves a server on which a disk lies.

use std::time::Duration;

use super::{Inner, Remote};
use crate::outcome::Failure;

impl Remote {
    /// Leaves the server: whatever is asked of it, now and later, fails. What it has been sent it may still do.
    pub fn abandon(&self) {
        let inner = &self.0;
        inner.abandoned.set(true);
        inner.expires.set(None);
        drop(inner.lines.take());
        inner.requests.borrow_mut().fail_all(Failure::IO);
        inner.quiet.set(None);
        inner.waiting.wake();
    }

    /// Whether it was left.
    pub fn is_abandoned(&self) -> bool {
        self.0.abandoned.get()
    }

    /// [Leaves](Self::abandon) the server then, unless this is taken back: somebody holds others up who waits for it.
    pub fn expire(&self, until: Option<Duration>) {
        self.0.expires.set(until);
    }

    /// Since when it is asked for something and neither hears nor says anything.
    pub fn quiet_since(&self) -> Option<Duration> {
        self.0.quiet.get()
    }
}

impl Inner {
    /// Something has come or gone, or nothing is wanted any more.
    pub(super) fn heard(&self, moved: bool) {
        if self.requests.borrow().is_idle() {
            self.quiet.set(None);
        } else if moved {
            self.quiet.set(Some(self.clock.now()));
        }
    }
}
