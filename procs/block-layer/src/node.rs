//! What every node of a graph can do. Called by the [`graph`](crate::graph), on the executor's thread
//! and nowhere else: no two calls into one graph ever overlap.
//!
//! A request at a node is a **flight**. It begins with [`Node::start`] and ends with exactly one
//! [`Step::Finish`]; between the two the node asks for steps (a call by a worker, a request to a
//! child, a wait) and is resumed when each is over. Nodes hold their state between steps in tables of
//! their own, keyed by the flight; they never block and never call each other.
//!
//! ```text
//! start ──▶ Work ──▶ resume(Worked) ──▶ Finish
//!      ├──▶ Child ─▶ resume(Child) ───▶ Finish
//!      ├──▶ Wait ──▶ resume(Due, Revoked) ─▶ …
//!      └──▶ Finish
//! ```
//!
//! What comes next fits here: `qcow2` turns one flight into metadata work and children on its file and
//! backing nodes, a job is one more requester, `throttle` waits, `nbd` finishes on its socket's news.
//!
//! Absent on purpose: async functions. What may happen between two steps of a request must be visible
//! in the node's own states, since a snapshot or a switch of nodes happens exactly there.

mod delay;
mod raw;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bulkhead_protocol::device::DiskInfo;
use bulkhead_ring::Arena;

pub use delay::Delay;
pub use raw::Raw;

use crate::graph::{FlightId, NodeId};
use crate::image::Image;
use crate::lane::Lease;
use crate::outcome::Outcome;
use crate::request::Action;

/// What a flight is about.
#[derive(Debug, Clone)]
pub struct Operands {
    /// What is to be done.
    pub action: Action,
    /// Where its data is. A flight owns it: its memory stays mapped until the flight is over.
    pub arena: Arena,
    /// Set once the requester is dead.
    pub revoked: Arc<AtomicBool>,
}

/// What a node asks for.
#[derive(Debug)]
pub enum Step {
    /// The flight is over.
    Finish(Outcome),
    /// A worker does it on the image, of which `done` bytes are done.
    Work {
        /// The image.
        image: Arc<Image>,
        /// What to do.
        action: Action,
        /// Bytes done.
        done: u32,
    },
    /// Another node does it.
    Child {
        /// Which.
        node: NodeId,
        /// What to do there.
        action: Action,
    },
    /// Resume the flight at that time.
    Wait(Instant),
}

/// Why a flight is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The worker is done.
    Worked(Outcome),
    /// The child is done.
    Child(Outcome),
    /// The wait is over.
    Due,
    /// The requester is dead, so the wait was cut short. Finish without touching the image.
    Revoked,
}

/// Where nodes put the steps they ask for.
#[derive(Debug, Default)]
pub struct Steps(VecDeque<(FlightId, Step)>);

impl Steps {
    /// Asks for a step of `flight`.
    pub fn ask(&mut self, flight: FlightId, step: Step) {
        self.0.push_back((flight, step));
    }

    pub(crate) fn next(&mut self) -> Option<(FlightId, Step)> {
        self.0.pop_front()
    }
}

/// One node of a graph.
pub trait Node: std::fmt::Debug + Send {
    /// What a disk with this node as its root is.
    fn info(&self) -> DiskInfo;

    /// What lanes may do without asking; `None`: nothing.
    fn lease(&self) -> Option<Lease>;

    /// A flight arrives.
    fn start(&mut self, flight: FlightId, operands: &Operands, steps: &mut Steps);

    /// A step that this node asked for is over.
    fn resume(&mut self, flight: FlightId, operands: &Operands, news: News, steps: &mut Steps);
}
