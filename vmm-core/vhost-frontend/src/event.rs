//! What the frontend tells core.

use crate::fault::Fault;

/// What a backend serves, after all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Features for the guest: those of the plan that the backend has. They never change.
    pub features: u64,
    /// Configuration space; its number of queues is the plan's.
    pub config: Vec<u8>,
}

/// The connection is over.
#[derive(Debug)]
pub struct Loss {
    /// Why. `None`: core ended it by [`Frontend::disconnect`](crate::Frontend::disconnect).
    pub fault: Option<Fault>,
    /// A queue was running and its requests are lost, since the backend keeps no in-flight table: the
    /// device needs a reset.
    pub needs_reset: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A backend has shaken hands. Comes after every connection.
    Up(Offer),
    /// The queues run: after [`Frontend::start`](crate::Frontend::start), and again after each death
    /// of the backend.
    Serving,
    /// No queue runs any more and nothing touches guest memory on this device's behalf. Answers
    /// [`Frontend::stop`](crate::Frontend::stop), always.
    Stopped,
    /// The configuration space has changed.
    ConfigChanged(Vec<u8>),
    /// There is no backend any more.
    Lost(Loss),
}
