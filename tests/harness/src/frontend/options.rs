//! What a frontend is to be like.

use std::time::Duration;

/// How a frontend shares its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One region, by SET_MEM_TABLE.
    Table,
    /// A region for each queue, by SET_MEM_TABLE.
    TableOfMany,
    /// A region for each queue, one ADD_MEM_REG each.
    Slots,
}

/// Choices; [`Options::new`] has the usual ones.
#[derive(Debug, Clone)]
pub struct Options {
    /// Queues to use. The backend must have at least as many.
    pub queues: u16,
    /// Requests in flight at most, per queue.
    pub depth: u16,
    /// Descriptors of each ring, a power of two.
    pub queue_size: u16,
    /// Bytes of data a request can have.
    pub buffer: usize,
    /// Acknowledge event indices, if they are offered.
    pub event_idx: bool,
    /// Acknowledge indirect descriptors, if they are offered.
    pub indirect: bool,
    /// Keep an in-flight table for a successor, if the backend can.
    pub inflight: bool,
    /// How memory is shared.
    pub sharing: Sharing,
    /// Features that must not be acknowledged, by mask.
    pub refuse: u64,
    /// How long connecting and each handshake may take.
    pub timeout: Duration,
}

impl Options {
    /// Event indices, indirect descriptors and in-flight table as offered, 128 KiB a request, and
    /// rings that hold `depth` requests of three descriptors.
    pub fn new(queues: u16, depth: u16) -> Self {
        Self {
            queues,
            depth,
            queue_size: depth.saturating_mul(3).clamp(128, 1 << 15).next_power_of_two(),
            buffer: 128 << 10,
            event_idx: true,
            indirect: true,
            inflight: true,
            sharing: Sharing::Table,
            refuse: 0,
            timeout: Duration::from_secs(10),
        }
    }
}
