//! Supervisor ↔ block-layer.
//!
//! Threads are made before the seal and so before the plan: the process's first argument
//! ([`crate::launch::LauncherCommand::Start`]) is the number of queues of all its exports, each of
//! which gets a thread. A plan with more queues is refused; one with fewer leaves threads idle.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use crate::device::{DiskInfo, RingShape};
use crate::spec::CacheMode;

/// The graph of one disk, root node first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodePlan {
    /// A file or block device as it is. Descriptor: the image, opened as `cache` and `read_only` say
    /// (O_DIRECT for `none`), locked by the supervisor: the lock must outlive this process, so that no
    /// other program slips in between its death and its successor.
    Raw {
        /// Host caching.
        cache: CacheMode,
        /// Pass discards on.
        discard: bool,
        /// Refuse writes.
        read_only: bool,
    },
    /// A qcow2 image with its backing files. Descriptors: the image, opened and locked as a raw one; its
    /// external data file, if it has one, likewise; each backing file and its data file, read-only and
    /// without O_DIRECT; unless `read_only`, the journal: a sealed memory object of [`JOURNAL_BYTES`],
    /// the same for every incarnation.
    Qcow2(Qcow2Plan),
}

impl NodePlan {
    /// Descriptors of its files.
    pub fn fd_count(&self) -> usize {
        let Self::Qcow2(plan) = self else {
            return 1;
        };
        let layers = plan.backing.iter().map(|layer| 1 + usize::from(layer.data_file));
        1 + usize::from(plan.data_file) + layers.sum::<usize>() + usize::from(!plan.read_only)
    }
}

/// Bytes of a journal.
pub const JOURNAL_BYTES: u64 = 1 << 20;

/// A qcow2 image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qcow2Plan {
    /// Host caching of image and data file.
    pub cache: CacheMode,
    /// Give clusters that become free back to the host.
    pub discard: bool,
    /// Refuse writes.
    pub read_only: bool,
    /// It has an external data file.
    pub data_file: bool,
    /// The layers below, the nearest first.
    pub backing: Vec<LayerPlan>,
}

/// A backing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// Its format.
    pub format: LayerFormat,
    /// It has an external data file.
    pub data_file: bool,
}

/// Format of a backing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerFormat {
    /// Bytes as they are.
    Raw,
    /// qcow2.
    Qcow2,
}

/// One consumer of the graph: a vhost-blk process, later an NBD server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportPlan {
    /// Number within this block layer.
    pub export: u32,
    /// Rings it has: one per queue.
    pub queues: u16,
    /// Shape of each ring.
    pub ring: RingShape,
    /// Incarnation the rings carry.
    pub incarnation: u64,
    /// This export may not write.
    pub read_only: bool,
    /// CPU of each queue's I/O thread; empty: unplaced.
    pub cpus: Vec<u32>,
}

/// Plan of a block layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockPlan {
    /// The root node.
    pub node: NodePlan,
    /// Its consumers.
    pub exports: Vec<ExportPlan>,
    /// Milliseconds that every request waits before it is performed: to rehearse recovery.
    pub delay_ms: u32,
}

/// To block-layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockCommand {
    /// First message. Descriptors: those of the node; then for each export, for each queue: ring
    /// memfd, submission doorbell (rung by the export), completion doorbell (rung here).
    Plan(Box<BlockPlan>),
    /// The export's process is dead: take no more of its submissions, finish or discard every
    /// request of its rings, forget the rings, answer `Detached`.
    Detach {
        /// Which export.
        export: u32,
    },
    /// Fresh rings for a detached export, after `Detached` or `ExportFault`. Descriptors: one ring memfd per queue; doorbells stay.
    Attach {
        /// Which export.
        export: u32,
        /// Queues.
        queues: u16,
        /// Incarnation the rings carry.
        incarnation: u64,
    },
}

/// From block-layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockEvent {
    /// The graph is open. Comes before `Ready`.
    Opened(DiskInfo),
    /// The graph cannot be opened.
    Refused {
        /// Why, in one sentence.
        reason: String,
    },
    /// Nothing of the export's old incarnation will touch the image any more.
    Detached {
        /// Which export.
        export: u32,
    },
    /// An export broke the ring protocol; it was detached and nothing of it is in flight.
    ExportFault {
        /// Which export.
        export: u32,
        /// What it did.
        reason: String,
    },
}

impl Message for BlockCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan(plan) => {
                let exports = plan.exports.iter();
                plan.node.fd_count() + exports.map(|e| 3 * usize::from(e.queues)).sum::<usize>()
            }
            Self::Detach { .. } => 0,
            Self::Attach { queues, .. } => usize::from(*queues),
        }
    }
}

impl Message for BlockEvent {}
