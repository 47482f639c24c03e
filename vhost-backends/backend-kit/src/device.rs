//! What a device has to say: everything else is the kit's.

use std::io;

use bulkhead_sys::poller::{Event, Poller, Token};

use crate::queue::LiveQueue;

/// The queues of a lane; `None` where the frontend runs none.
pub type Queues = [Option<LiveQueue>];

/// Why a device cannot go on. The process exits with a record of it; its successor starts with what
/// the in-flight tables say.
#[derive(Debug, thiserror::Error)]
pub enum DeviceFault {
    /// The service behind the device broke its protocol.
    #[error("the service behind this device: {0}")]
    Peer(String),
    /// The kernel refused.
    #[error(transparent)]
    Host(#[from] io::Error),
    /// This code is wrong.
    #[error("bug: {0}")]
    Bug(String),
}

/// What a device wants to do when it has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Look again at once.
    Look,
    /// Sleep until a kick, an order or one of its own descriptors. What wakes it was armed.
    Sleep,
}

/// A device, or the part of one that serves the queues of one thread (its lane).
///
/// Law: no method blocks, and none loops without a bound of its own: the thread that calls them
/// answers heartbeats.
pub trait Device: Send + 'static {
    /// What the supervisor may tell it besides connections.
    type Order: Send + 'static;

    /// The first thing that is called on the thread that serves it: adds its own descriptors to the
    /// thread's poller. Their events come with tokens from `first` on.
    fn watch(&mut self, poller: &Poller, first: Token) -> io::Result<()>;

    /// Does what can be done without waiting; answers whether there was anything. What it gives back
    /// is shown to the driver when it returns.
    fn serve(&mut self, queues: &mut Queues) -> Result<bool, DeviceFault>;

    /// There was nothing to do.
    fn rest(&mut self) -> Result<Rest, DeviceFault> {
        Ok(Rest::Sleep)
    }

    /// The thread is awake after [`Rest::Sleep`], whatever the reason.
    fn woke(&mut self) {}

    /// One of its own descriptors has news.
    fn event(&mut self, _poller: &Poller, _event: Event) -> Result<(), DeviceFault> {
        Ok(())
    }

    /// The supervisor said something.
    fn order(&mut self, order: Self::Order, queues: &mut Queues) -> Result<(), DeviceFault>;

    /// The frontend wants this queue stopped. Requests that are not with a service behind the device
    /// are put back or completed now; the others are awaited.
    fn stop(&mut self, _queue: &mut LiveQueue) {}
}
