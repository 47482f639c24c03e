//! What the supervisor says to a block layer.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use super::job::JobPlan;
use super::layer::LayerNumber;
use super::order::BlockOrder;
use super::plan::{BlockPlan, ExportPlan};

/// To block-layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockCommand {
    /// First message. Descriptors: the levels of its throttle group ([`crate::filters::GROUP_BYTES`]), if it is
    /// in one; its reference, if it has one, opened as a raw image; those of the node; then for each export, for each queue: ring
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
    /// A consumer more, while others are served. Descriptors: for each queue its ring memfd, submission
    /// doorbell and completion doorbell.
    AddExport(ExportPlan),
    /// A detached export is not attached again: forget it.
    RemoveExport {
        /// Which export.
        export: u32,
    },
    /// A socket that was wanted. Descriptor: the socket, connected or about to be.
    Socket {
        /// For which layer.
        layer: LayerNumber,
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

impl Message for BlockCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan(plan) => {
                let exports = plan.exports.iter();
                let exports = exports.map(|e| 3 * usize::from(e.queues)).sum::<usize>();
                let jobs = plan.jobs.iter().map(JobPlan::fd_count).sum::<usize>();
                let group = usize::from(plan.filters.group.is_some());
                let group = group + usize::from(plan.verify);
                group + plan.node.fd_count() + exports + jobs
            }
            Self::Detach { .. }
            | Self::RemoveExport { .. }
            | Self::Switched { .. }
            | Self::Abandoned { .. } => 0,
            Self::AddExport(export) => 3 * usize::from(export.queues),
            Self::Attach { queues, .. } => usize::from(*queues),
            Self::Socket { .. } => 1,
            Self::Order { order, .. } => order.fd_count(),
        }
    }
}
