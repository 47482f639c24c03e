//! Nodes: what stands in front of a disk's chain and lets its requests wait, or fail.
//!
//! Called by the [`disk`](crate::disk) for every request before it enters the gate, on the executor's
//! thread and nowhere else: a request that waits here is in nobody's way, and a change of the chain need
//! not wait for it.
//!
//! Why not nodes that wrap each other: each of these lets a request pass unchanged. What turns requests
//! into others (formats) is a [`Layer`](crate::qcow2::Layer) of the chain, where jobs see it.

mod build;
mod delay;
mod faults;
pub mod journal;
mod open;
mod secret;
mod served;
mod throttle;

use std::rc::Rc;
use std::sync::atomic::AtomicBool;

pub use build::nodes;
pub use delay::Delay;
pub use faults::{Fault, Faults, What};
pub use open::{LEAST_DIRECT, Opened, Opening, Refused};
pub use secret::{KeptSecret, SecretError};
pub use served::Served;
pub use throttle::{Levels, LevelsError, Throttle};

use crate::clock::Clock;
use crate::disk::Operation;
use crate::outcome::{Failure, Outcome};

/// One node.
#[derive(Debug)]
pub enum Node {
    /// Lets every request wait.
    Delay(Delay),
    /// Lets requests wait that come too fast. Disks of one group share it.
    Throttle(Rc<Throttle>),
    /// Whatever is read from below becomes the top layer's own.
    CopyOnRead,
    /// Fails or delays requests that a rule names.
    Faults(Faults),
}

impl Node {
    /// Lets a request pass, perhaps later.
    pub async fn admit(
        &self,
        operation: &Operation,
        clock: &Rc<dyn Clock>,
        revoked: &AtomicBool,
    ) -> Outcome {
        match self {
            Self::Delay(delay) => delay.admit(clock, revoked).await,
            Self::Throttle(throttle) => throttle.admit(operation, clock, revoked).await,
            Self::CopyOnRead => Ok(()),
            Self::Faults(faults) => faults.admit(operation, clock, revoked).await,
        }
    }

    /// How a request fails that a rule names.
    pub fn failure(&self, operation: &Operation) -> Option<Failure> {
        match self {
            Self::Faults(faults) => faults.failure(operation),
            Self::Delay(_) | Self::Throttle(_) | Self::CopyOnRead => None,
        }
    }

    /// Whether reads make the top layer complete.
    pub fn copies_on_read(&self) -> bool {
        matches!(self, Self::CopyOnRead)
    }
}
