//! What every node of a graph can do. Called by the [`graph`](crate::graph), on the executor's thread
//! and nowhere else.
//!
//! A request goes through a node as an `async` function that reads from top to bottom. Between two
//! `await`s it is alone; at each `await` others may come by, so what must stay together (a cluster that is
//! being filled, a commit) is held by a lock of the node and is seen in its text. Nodes never block:
//! whatever may take time is a call at the [`Desk`](crate::graph::Desk).
//!
//! Why not a table of states per node: qcow2's requests read, copy, allocate and write in loops, and as
//! states those came to several times the text, none of it about the format. What a graph's change must not
//! meet half way is kept apart by waiting for the tasks in it, which is one line.

mod delay;
pub mod journal;
mod open;
mod qcow2;
mod raw;
mod served;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bulkhead_protocol::device::DiskInfo;
use bulkhead_ring::Arena;

pub use delay::Delay;
pub use open::{Opening, Refused};
pub use qcow2::Qcow2Node;
pub use raw::Raw;
pub use served::Served;

use crate::lane::Lease;
use crate::outcome::Outcome;
use crate::request::Action;

/// What a request is about.
#[derive(Debug, Clone)]
pub struct Operands {
    /// What is to be done.
    pub action: Action,
    /// Where its data is. A request owns it: its memory stays mapped until the request is over.
    pub arena: Arena,
    /// Set once the requester is dead.
    pub revoked: Arc<AtomicBool>,
}

/// One node.
#[derive(Debug)]
pub enum Node {
    /// A file or block device as it is.
    Raw(Raw),
    /// Lets requests wait.
    Delay(Delay),
    /// An image with a table of clusters.
    Qcow2(Box<Qcow2Node>),
}

impl Node {
    /// What a disk with this node as its root is.
    pub fn info(&self) -> DiskInfo {
        match self {
            Self::Raw(raw) => raw.info(),
            Self::Delay(delay) => delay.info(),
            Self::Qcow2(image) => image.info(),
        }
    }

    /// What lanes may do without asking; `None`: nothing.
    pub fn lease(&self) -> Option<Lease> {
        match self {
            Self::Raw(raw) => raw.lease(),
            Self::Delay(_) | Self::Qcow2(_) => None,
        }
    }

    /// Does what is asked for.
    pub async fn perform(&self, operands: &Operands) -> Outcome {
        match self {
            Self::Raw(raw) => raw.perform(operands).await,
            Self::Delay(delay) => Box::pin(delay.perform(operands)).await,
            Self::Qcow2(image) => image.perform(operands).await,
        }
    }

    /// Whether it has something that its files do not have yet.
    pub fn has_changed(&self) -> bool {
        match self {
            Self::Raw(_) => false,
            Self::Delay(delay) => delay.child().has_changed(),
            Self::Qcow2(image) => image.has_changed(),
        }
    }

    /// Writes that.
    pub async fn write_back(&self) -> Outcome {
        match self {
            Self::Raw(_) => Ok(()),
            Self::Delay(delay) => Box::pin(delay.child().write_back()).await,
            Self::Qcow2(image) => image.write_back().await,
        }
    }
}
