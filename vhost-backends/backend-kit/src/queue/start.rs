//! What is needed to serve a queue, and why it may not be served.

use std::sync::Arc;

use bulkhead_memory::GuestMemory;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_virtqueue::{QueueFault, QueueSetup};

use crate::inflight::{InflightTable, TableFault};

/// A queue as the frontend described it, translated and complete.
#[derive(Debug)]
pub struct QueueStart {
    /// Which queue of the device.
    pub index: u16,
    /// Its rings, by guest addresses.
    pub setup: QueueSetup,
    /// Its rings are packed.
    pub packed: bool,
    /// The virtio features that the driver accepted.
    pub features: u64,
    /// Guest memory.
    pub memory: GuestMemory,
    /// Its position by the frontend; counts if the in-flight table has none.
    pub base: u32,
    /// Rung by the driver.
    pub kick: Doorbell,
    /// Rung for the driver.
    pub call: Option<Doorbell>,
    /// Rung when the driver breaks its queue.
    pub err: Option<Doorbell>,
    /// The in-flight table, if it was negotiated.
    pub table: Option<Arc<InflightTable>>,
    /// The frontend wants it served at once.
    pub enabled: bool,
    /// Requests found in flight have survived one attempt more.
    pub own_fault: bool,
}

/// Why a queue cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The driver placed it where it cannot be. Blame: Guest.
    #[error(transparent)]
    Guest(#[from] QueueFault),
    /// The in-flight table contradicts itself. Blame: Peer.
    #[error(transparent)]
    Table(#[from] TableFault),
}
