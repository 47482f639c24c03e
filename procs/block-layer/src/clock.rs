//! Time, for what waits on the executor's thread: delayed and throttled requests, jobs with a speed,
//! requests that wait for space.
//!
//! The [`Desk`](crate::graph::Desk) has the real one; tests have one that they move on themselves.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::outcome::{Failure, Outcome};

/// A clock that wakes.
pub trait Clock: std::fmt::Debug {
    /// Time since some beginning; it never goes back.
    fn now(&self) -> Duration;

    /// Wakes at that time, or earlier if something happened for which everybody should look up.
    fn wake_at(&self, until: Duration, waker: Waker);
}

/// Waits until `until`.
pub async fn wait_until(clock: &Rc<dyn Clock>, until: Duration) {
    std::future::poll_fn(|context| {
        if clock.now() >= until {
            return Poll::Ready(());
        }
        clock.wake_at(until, context.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Waits, but not for a dead requester.
pub async fn wait_for(clock: &Rc<dyn Clock>, until: Duration, revoked: &AtomicBool) -> Outcome {
    std::future::poll_fn(|context| {
        if revoked.load(Ordering::Acquire) {
            return Poll::Ready(Err(Failure::DISCARDED));
        }
        if clock.now() >= until {
            return Poll::Ready(Ok(()));
        }
        clock.wake_at(until, context.waker().clone());
        Poll::Pending
    })
    .await
}
