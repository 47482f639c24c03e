//! A filter that lets every request wait before its child performs it.
//!
//! Recovery is rehearsed with it: on tmpfs a request is over before its process can be killed, so the
//! tests that look for stale writes give each one 200 ms to be in flight. Requests keep their order of
//! arrival, and any number of them wait at a time.

use std::rc::Rc;
use std::time::Duration;

use bulkhead_protocol::device::DiskInfo;

use super::{Node, Operands};
use crate::graph::Desk;
use crate::outcome::Outcome;

/// The node. It leases nothing: a lane would perform at once.
#[derive(Debug)]
pub struct Delay {
    child: Rc<Node>,
    time: Duration,
    desk: Rc<Desk>,
}

impl Delay {
    /// Delays requests to `child` by `time`.
    pub fn new(child: Rc<Node>, time: Duration, desk: Rc<Desk>) -> Self {
        Self { child, time, desk }
    }

    pub(super) fn info(&self) -> DiskInfo {
        self.child.info()
    }

    pub(super) fn child(&self) -> &Node {
        &self.child
    }

    pub(super) async fn perform(&self, operands: &Operands) -> Outcome {
        self.desk.wait(self.time, &operands.revoked).await?;
        self.child.perform(operands).await
    }
}
