//! A filter that lets every request wait before its child performs it.
//!
//! Recovery is rehearsed with it: on tmpfs a request is over before its process can be killed, so the
//! tests that look for stale writes give each one 200 ms to be in flight. Requests keep their order of
//! arrival, and any number of them wait at a time.

use std::time::{Duration, Instant};

use bulkhead_protocol::device::DiskInfo;

use super::{News, Node, Operands, Step, Steps};
use crate::graph::{FlightId, NodeId};
use crate::lane::Lease;
use crate::outcome::Failure;

/// The node.
#[derive(Debug)]
pub struct Delay {
    child: NodeId,
    info: DiskInfo,
    time: Duration,
}

impl Delay {
    /// Delays requests to `child`, which is `info`, by `time`.
    pub fn new(child: NodeId, info: DiskInfo, time: Duration) -> Self {
        Self { child, info, time }
    }
}

impl Node for Delay {
    fn info(&self) -> DiskInfo {
        self.info
    }

    /// None: a lane would perform at once.
    fn lease(&self) -> Option<Lease> {
        None
    }

    fn start(&mut self, flight: FlightId, _: &Operands, steps: &mut Steps) {
        steps.ask(flight, Step::Wait(Instant::now() + self.time));
    }

    fn resume(&mut self, flight: FlightId, operands: &Operands, news: News, steps: &mut Steps) {
        let step = match news {
            News::Due => Step::Child { node: self.child, action: operands.action },
            News::Revoked => Step::Finish(Err(Failure::DISCARDED)),
            News::Child(outcome) | News::Worked(outcome) => Step::Finish(outcome),
        };
        steps.ask(flight, step);
    }
}
