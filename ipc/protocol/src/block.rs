//! Supervisor ↔ block-layer.
//!
//! ```text
//! supervisor                              block-layer
//!   |--- Plan + fds ------------------------>|  opens the graph, starts its jobs again
//!   |<-- Opened, Layers, Answer… ------------|
//!   |--- Order{call} + fds ----------------->|
//!   |<-- Answer{call} -----------------------|
//!   |              a snapshot, or a job that ends
//!   |<-- Switching{chain} -------------------|  drained, all durable that the new chain needs
//!   | records the new chain                  |
//!   |--- Switched -------------------------->|  goes over, and serves again
//!   |<-- Answer{call}, or Job{concluded} ----|
//! ```
//!
//! A block-layer that dies before the record has the old chain as its successor's plan, one that dies after it
//! the new one. Both are right, since nothing is written in between.
//!
//! Threads are made before the seal and so before the plan: the process's first argument
//! ([`crate::launch::LauncherCommand::Start`]) is the number of queues of all its exports, each of
//! which gets a thread. A plan with more queues is refused; one with fewer leaves threads idle.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use crate::block_control::{
    BitmapAction, BitmapState, CopyMode, ErrorPolicy, Extent, JobAction, Limits,
};
use crate::device::{DiskInfo, RingShape};
use crate::spec::{CacheMode, OnError};

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

/// A layer of a disk, numbered by the supervisor, never used twice for another file of the same disk.
pub type LayerNumber = u32;

/// A layer's number and name. The name is text for the header of the layer above; nobody opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLayer {
    /// Its number.
    pub layer: LayerNumber,
    /// Its path.
    pub name: String,
    /// Its format.
    pub format: LayerFormat,
}

/// A file that a job or a snapshot writes. Descriptors: the file, opened and locked for writing; if it is
/// qcow2, its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetPlan {
    /// What it is called from now on.
    pub named: NamedLayer,
    /// It is empty and is to be made: bytes of a cluster, 0 for the default. None: it is there.
    pub create: Option<u32>,
    /// Host caching.
    pub cache: CacheMode,
}

impl TargetPlan {
    /// Descriptors that it needs.
    pub fn fd_count(&self) -> usize {
        match self.named.format {
            LayerFormat::Raw => 1,
            LayerFormat::Qcow2 => 2,
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPlan {
    /// Its name.
    pub job: String,
    /// Bytes a second at most; 0: as fast as it goes.
    pub speed: u64,
    /// What it does when a read fails.
    pub on_source_error: ErrorPolicy,
    /// What it does when a write fails.
    pub on_target_error: ErrorPolicy,
    /// It is paused.
    pub paused: bool,
    /// What it does.
    pub kind: JobKind,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    /// Copies what lies below the top layer, down to `base`, into the top layer.
    Stream {
        /// Stays; none: nothing does.
        base: Option<LayerNumber>,
    },
    /// Writes the layers from `top` down into `base`, which is below. Descriptors: the base, opened and
    /// locked for writing; its data file, if it has one; if it is qcow2, its journal.
    Commit {
        /// The highest layer that is written down; the disk's top layer: the disk goes over to the base.
        top: LayerNumber,
        /// Into which.
        base: LayerNumber,
        /// Host caching of the base.
        cache: CacheMode,
        /// It has an external data file.
        data_file: bool,
        /// It has a journal: it is qcow2.
        journal: bool,
    },
    /// Copies the disk and what is written to it meanwhile. With [`Extent::Top`] the target lies on what
    /// is below the disk's top layer.
    Mirror {
        /// Into which file.
        target: TargetPlan,
        /// How much.
        sync: Extent,
        /// Bytes that are copied together.
        granularity: u32,
        /// When writes reach the target.
        mode: CopyMode,
    },
    /// Copies the disk as it is when the job starts.
    Backup {
        /// Into which file.
        target: TargetPlan,
        /// How much.
        sync: Extent,
        /// The bitmap of an incremental one.
        bitmap: Option<String>,
    },
}

impl JobPlan {
    /// Descriptors that it needs.
    pub fn fd_count(&self) -> usize {
        match &self.kind {
            JobKind::Stream { .. } => 0,
            JobKind::Commit { data_file, journal, .. } => {
                1 + usize::from(*data_file) + usize::from(*journal)
            }
            JobKind::Mirror { target, .. } | JobKind::Backup { target, .. } => target.fd_count(),
        }
    }
}

/// A backing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// Its format.
    pub format: LayerFormat,
    /// It has an external data file.
    pub data_file: bool,
}

/// Format of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// Its layers, the top one first.
    pub layers: Vec<NamedLayer>,
    /// Its consumers.
    pub exports: Vec<ExportPlan>,
    /// Milliseconds that every request waits before it is performed: to rehearse recovery.
    pub delay_ms: u32,
    /// Limits.
    pub limits: Limits,
    /// What is done about errors of requests.
    pub on_error: OnError,
    /// Jobs that a dead predecessor had, and that start again.
    pub jobs: Vec<JobPlan>,
}

impl BlockPlan {
    /// A graph without names, limits, delay and jobs.
    pub fn serving(node: NodePlan, exports: Vec<ExportPlan>) -> Self {
        let (layers, jobs) = (Vec::new(), Vec::new());
        let (limits, on_error) = (Limits::default(), OnError::default());
        Self { node, layers, exports, delay_ms: 0, limits, on_error, jobs }
    }
}

/// What a block-layer is asked, besides its plan. Each is answered once, by [`BlockEvent::Answer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockOrder {
    /// What there is now.
    Query,
    /// A new top layer. `Switching` comes when it is ready, and the answer after the disk has gone over to
    /// it, or has not. Descriptors: the target's.
    Snapshot(TargetPlan),
    /// Start a job. Descriptors: the job's.
    Start(JobPlan),
    /// Do something about a job; never [`JobAction::Dismiss`].
    Job {
        /// Its name.
        job: String,
        /// What.
        action: JobAction,
    },
    /// Do something about a dirty bitmap.
    Bitmap {
        /// Its name.
        bitmap: String,
        /// What.
        action: BitmapAction,
    },
    /// Do something about an internal snapshot of the top layer.
    InternalSnapshot {
        /// Its name.
        snapshot: String,
        /// Make it; otherwise delete it.
        create: bool,
        /// Seconds since the epoch.
        time: u64,
    },
    /// Other limits.
    Throttle(Limits),
    /// Requests that failed and wait are tried again.
    Resume,
}

impl BlockOrder {
    /// Descriptors that come with it.
    pub fn fd_count(&self) -> usize {
        match self {
            Self::Snapshot(target) => target.fd_count(),
            Self::Start(job) => job.fd_count(),
            _ => 0,
        }
    }
}

/// The answer to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockAnswer {
    /// Done; of a job: it runs.
    Done,
    /// It cannot be done; nothing has changed.
    Refused(String),
    /// Answer to `Query`.
    Disk(Box<DiskReport>),
}

/// What a block-layer knows of its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// Bytes that its consumers see.
    pub size: u64,
    /// Its layers, the top one first.
    pub layers: Vec<LayerReport>,
    /// Dirty bitmaps.
    pub bitmaps: Vec<BitmapState>,
    /// Internal snapshots of the top layer.
    pub snapshots: Vec<String>,
    /// Jobs.
    pub jobs: Vec<JobReport>,
}

/// What a block-layer knows of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Its number.
    pub layer: LayerNumber,
    /// Bytes of the disk that it is.
    pub size: u64,
    /// What its header says is below.
    pub backing_name: Option<String>,
}

/// Where a job is in its life; QEMU's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStatus {
    /// Not begun.
    Created,
    /// It copies.
    Running,
    /// It is paused, by its user or by an error.
    Paused,
    /// Target and disk are the same; it may be completed.
    Ready,
    /// It is ready and paused.
    Standby,
    /// It goes over.
    Pending,
    /// It is cleaning up after a failure.
    Aborting,
    /// It has ended.
    Concluded,
}

/// A job at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobReport {
    /// Its name.
    pub job: String,
    /// `stream`, `commit`, `mirror` or `backup`.
    pub kind: String,
    /// Where it is in its life.
    pub status: JobStatus,
    /// Bytes done, as QEMU counts them.
    pub offset: u64,
    /// Bytes in all; grows with what is written meanwhile.
    pub len: u64,
    /// Bytes a second at most; 0: as fast as it goes.
    pub speed: u64,
    /// What went wrong, or why it is paused.
    pub error: Option<String>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobEnd {
    /// It did what it was for.
    Completed,
    /// It was cancelled.
    Cancelled,
    /// It could not go on.
    Failed(String),
}

/// To block-layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockCommand {
    /// First message. Descriptors: those of the node; then for each export, for each queue: ring
    /// memfd, submission doorbell (rung by the export), completion doorbell (rung here); then those
    /// of each job.
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
    /// Do this.
    Order {
        /// Number by which the answer names it.
        call: u64,
        /// What.
        order: BlockOrder,
    },
    /// The new chain is recorded: go over.
    Switched {
        /// Number of the change.
        change: u64,
    },
    /// The new chain is not wanted any more: stay.
    Abandoned {
        /// Number of the change.
        change: u64,
        /// Why.
        reason: String,
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
    /// The answer to an order.
    Answer {
        /// The order's number.
        call: u64,
        /// The answer.
        answer: BlockAnswer,
    },
    /// What the layers' headers say of the names below them, once after `Opened`.
    Headers(Vec<LayerReport>),
    /// The disk is drained, and all that the new chain needs is durable. Nothing is written before the
    /// answer.
    Switching {
        /// Number of the change in this incarnation.
        change: u64,
        /// The order that wanted it; none: a job.
        call: Option<u64>,
        /// The job that ends with it.
        job: Option<String>,
        /// The new chain, the top layer first.
        chain: Vec<LayerNumber>,
    },
    /// A job has changed its state.
    Job(JobReport),
    /// A job has ended, and holds its files no longer.
    JobEnded {
        /// As it was at its end.
        report: JobReport,
        /// How.
        end: JobEnd,
    },
    /// A request or a job met an error that its user wants to know of.
    Trouble {
        /// The job; none: the guest's request.
        job: Option<String>,
        /// What was to be done.
        operation: String,
        /// Errno.
        errno: i32,
        /// It waits now.
        paused: bool,
    },
    /// No request waits any more after an error.
    TroubleOver,
}

impl Message for BlockCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan(plan) => {
                let exports = plan.exports.iter();
                let exports = exports.map(|e| 3 * usize::from(e.queues)).sum::<usize>();
                let jobs = plan.jobs.iter().map(JobPlan::fd_count).sum::<usize>();
                plan.node.fd_count() + exports + jobs
            }
            Self::Detach { .. } | Self::Switched { .. } | Self::Abandoned { .. } => 0,
            Self::Attach { queues, .. } => usize::from(*queues),
            Self::Order { order, .. } => order.fd_count(),
        }
    }
}

impl Message for BlockEvent {}
