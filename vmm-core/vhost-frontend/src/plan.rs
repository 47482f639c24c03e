//! What the supervisor's plan says about a device, and what it handed over for it.
//!
//! Everything that a backend says is measured against this.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_memory::GuestMemory;
use bulkhead_sys::eventfd::Doorbell;

/// A device's configuration space, as its type has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConfigSpace {
    /// Bytes; 0: the type has none.
    pub len: usize,
    /// A feature bit and the offset of the 16-bit number of queues that is valid with it.
    pub queue_count: Option<(u8, usize)>,
}

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
    /// Queues, 1 to 256.
    pub queues: u16,
    /// Greatest size of a queue; the in-flight table was made for it.
    pub queue_size: u16,
    /// Features that are offered to the guest if the backend has them. VERSION_1 is required always.
    pub features: u64,
    /// Configuration space.
    pub config: ConfigSpace,
    /// Deadlines.
    pub patience: Patience,
}

/// Kick and call of a queue.
#[derive(Debug, Clone)]
pub struct QueueBells {
    /// Rung by the guest.
    pub kick: Arc<Doorbell>,
    /// Rung by the backend.
    pub call: Arc<Doorbell>,
}

/// Guest RAM: the object to hand over, and its mapping, to look at used indices.
#[derive(Debug, Clone)]
pub struct SharedRam {
    /// The memory object.
    pub fd: Arc<OwnedFd>,
    /// Its regions, mapped.
    pub memory: GuestMemory,
}

/// The in-flight table of a backend of our own. Core passes it on and never looks into it.
#[derive(Debug, Clone)]
pub struct InflightTable {
    /// The memory object.
    pub fd: Arc<OwnedFd>,
    /// Its length in bytes.
    pub len: u64,
}
