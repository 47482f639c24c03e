//! A node that lets every request wait.
//!
//! Recovery is rehearsed with it: on tmpfs a request is over before its process can be killed, so the
//! tests that look for stale writes give each one 200 ms to be in flight. Requests keep their order of
//! arrival, and any number of them wait at a time.

use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::clock::{Clock, wait_for};
use crate::outcome::Outcome;

/// The node.
#[derive(Debug)]
pub struct Delay(pub Duration);

impl Delay {
    pub(super) async fn admit(&self, clock: &Rc<dyn Clock>, revoked: &AtomicBool) -> Outcome {
        wait_for(clock, clock.now() + self.0, revoked).await
    }
}
