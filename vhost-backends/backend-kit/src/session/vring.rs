//! What the frontend has said about one queue.

use bulkhead_sys::eventfd::Doorbell;

use crate::wire::VringAddresses;

/// Whether a lane has the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum VringState {
    /// Its setup may change.
    #[default]
    Stopped,
    /// A lane serves it, or is just told to.
    Running,
    /// A lane was told to stop it.
    Stopping,
}

/// A queue's setup as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Vring {
    pub(super) state: VringState,
    pub(super) size: u16,
    pub(super) addresses: Option<VringAddresses>,
    pub(super) base: u32,
    pub(super) call: Option<Doorbell>,
    pub(super) err: Option<Doorbell>,
    /// `None`: the frontend did not say.
    pub(super) enabled: Option<bool>,
}
