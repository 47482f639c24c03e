//! What a block layer says to the supervisor.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use super::job::{JobEnd, JobReport};
use super::layer::LayerNumber;
use super::order::{BlockAnswer, LayerReport};
use super::remote::KnownExport;
use crate::device::DiskInfo;

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
    /// The graph cannot be opened as long as a layer's server is away. The process has no graph, and is of no use.
    Away {
        /// Which layer.
        layer: LayerNumber,
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
    /// A layer on a server wants another socket: `Socket` is the answer, whenever that may be.
    SocketWanted {
        /// Which layer.
        layer: LayerNumber,
    },
    /// A layer's server has agreed on a connection.
    Connected {
        /// Which layer.
        layer: LayerNumber,
        /// What the server says it is.
        export: KnownExport,
    },
    /// A layer has no connection with its server any more; its requests wait.
    Disconnected {
        /// Which layer.
        layer: LayerNumber,
        /// Why.
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
        /// The order that wanted it; none: a job. Of one that applies an internal snapshot it has gone back
        /// already, and the chain is the same.
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
    /// The disk does not read as its reference does.
    Differs {
        /// From which byte on.
        at: u64,
    },
}

impl Message for BlockEvent {}
