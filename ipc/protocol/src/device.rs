//! Supervisor ↔ device processes: vhost-blk, vhost-console, vhost-rng.
//!
//! A device process is born without a connection. Each connected vhost-user socket comes by
//! `Connection`: from core's fresh pair in a VM, from the supervisor's listener for a storage export.
//! Frontends are served one after another; after a hang-up the process drains, says `Disconnected`
//! and waits for the next.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

/// What a disk is, as the guest is told. It never changes during the life of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskInfo {
    /// Bytes, a multiple of 512.
    pub size: u64,
    /// Logical block size in bytes: 512 or 4096.
    pub logical_block: u32,
    /// Physical block size in bytes, a power-of-two multiple of the logical one.
    pub physical_block: u32,
    /// Preferred I/O size in bytes; 0: none.
    pub optimal_io: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Discard is passed on.
    pub discard: bool,
    /// Flush is offered (the cache is volatile).
    pub flush: bool,
}

/// Geometry of a block ring, as agreed by both plans; see `bulkhead_ring::RingGeometry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingShape {
    /// Slots of each direction, a power of two.
    pub entries: u32,
    /// Bytes of the arena, a multiple of 4096.
    pub arena: u64,
}

impl RingShape {
    /// What every block ring has unless its plan says otherwise. The arena is only touched as far as
    /// requests are in flight.
    pub const DEFAULT: Self = Self { entries: 256, arena: 8 << 20 };
}

/// Queues of a vhost-user device process and the size of its in-flight table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePlan {
    /// Queues the device has.
    pub queues: u16,
    /// Greatest size of a queue; in-flight tables are made for it.
    pub queue_size: u16,
    /// The predecessor died by a fault of its own (not by SIGKILL from outside): each request that it
    /// left in flight has survived one attempt more. `false` for the first incarnation.
    pub own_fault: bool,
}

/// To vhost-blk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlkCommand {
    /// First message. Descriptors: the in-flight memfd; then for each queue its ring memfd, its
    /// submission doorbell (rung here), its completion doorbell (rung by block-layer).
    Plan(BlkPlan),
    /// A frontend. Descriptor: a connected vhost-user socket.
    Connection,
    /// The block layer was restarted: take these rings and submit again what is outstanding, in
    /// submission order. Descriptors: one ring memfd per queue; doorbells stay.
    RingReplaced {
        /// Queues.
        queues: u16,
        /// Incarnation the new rings carry.
        incarnation: u64,
        /// The block layer died by a fault of its own: outstanding requests count one attempt more.
        own_fault: bool,
    },
    /// The disk has grown: tell the guest.
    Resized {
        /// Bytes.
        size: u64,
    },
}

/// Plan of vhost-blk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlkPlan {
    /// The disk.
    pub disk: DiskInfo,
    /// Serial, at most 20 bytes.
    pub serial: String,
    /// Queues.
    pub queues: QueuePlan,
    /// Shape of each queue's block ring.
    pub ring: RingShape,
    /// Incarnation the rings carry.
    pub incarnation: u64,
    /// CPU of each queue's thread; empty: unplaced.
    pub cpus: Vec<u32>,
}

/// To vhost-console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsoleCommand {
    /// First message. Descriptors: the in-flight memfd, the console stream.
    Plan {
        /// Queues.
        queues: QueuePlan,
        /// Columns; 0: unknown.
        columns: u16,
        /// Rows; 0: unknown.
        rows: u16,
    },
    /// A frontend. Descriptor: a connected vhost-user socket.
    Connection,
    /// The terminal changed its size.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
}

/// To vhost-rng.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RngCommand {
    /// First message. Descriptor: the in-flight memfd.
    Plan {
        /// Queues.
        queues: QueuePlan,
    },
    /// A frontend. Descriptor: a connected vhost-user socket.
    Connection,
}

/// From any device process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceEvent {
    /// The frontend hung up and everything of its was drained.
    Disconnected,
    /// A request that was in flight in three deaths was answered with an error.
    PoisonRequest,
    /// The frontend broke the protocol; the connection was dropped.
    FrontendFault(String),
    /// The driver broke a queue, which is served no more until the device is reset.
    QueueBroken {
        /// Which queue.
        queue: u16,
        /// How.
        reason: String,
    },
}

impl Message for BlkCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan(plan) => 1 + 3 * usize::from(plan.queues.queues),
            Self::Connection => 1,
            Self::Resized { .. } => 0,
            Self::RingReplaced { queues, .. } => usize::from(*queues),
        }
    }
}

impl Message for ConsoleCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan { .. } => 2,
            Self::Connection => 1,
            Self::Resize { .. } => 0,
        }
    }
}

impl Message for RngCommand {
    fn fd_count(&self) -> usize {
        1
    }
}

impl Message for DeviceEvent {}
