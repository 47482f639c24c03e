//! What the supervisor's plan says about a device, and what it handed over for it.
//!
//! Everything that a backend says is measured against this.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_memory::GuestMemory;
use bulkhead_virtio_transport::DeviceType;

/// How long a backend may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// To answer anything but the stop of a queue.
    pub reply: Duration,
    /// To stop a queue: requests in flight are finished first.
    pub stop: Duration,
}

impl Default for Patience {
    /// 5 s, and 30 s to stop.
    fn default() -> Self {
        Self { reply: Duration::from_secs(5), stop: Duration::from_secs(30) }
    }
}

/// The device as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Queues, 1 to 256; the backend may have more.
    pub queues: u16,
    /// Greatest size of a queue; the in-flight table was made for it.
    pub queue_size: u16,
    /// What it is: its features are offered to the guest as far as the backend has them.
    pub device: DeviceType,
    /// Deadlines.
    pub patience: Patience,
}

/// Guest RAM: the object to hand over, and its mapping, to look at used indices.
#[derive(Debug, Clone)]
pub struct SharedRam {
    /// The memory object.
    pub fd: Arc<OwnedFd>,
    /// Its regions, mapped.
    pub memory: GuestMemory,
    /// Where backends are to mark the pages that they write, if anybody wants to know.
    pub written: Option<WrittenLog>,
}

/// The log of written pages, a bit for each page from guest address 0. Core passes it on and never looks
/// into it.
#[derive(Debug, Clone)]
pub struct WrittenLog {
    /// The memory object.
    pub fd: Arc<OwnedFd>,
    /// Its length in bytes.
    pub len: u64,
}

/// The in-flight table of a backend of our own. Core passes it on and never looks into it.
#[derive(Debug, Clone)]
pub struct InflightTable {
    /// The memory object.
    pub fd: Arc<OwnedFd>,
    /// Its length in bytes.
    pub len: u64,
}
