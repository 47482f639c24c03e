//! The plan of a block layer: its graph, its consumers, and what holds for both.

use serde::{Deserialize, Serialize};

use super::job::JobPlan;
use super::layer::NamedLayer;
use super::node::NodePlan;
use super::remote::RemotePlan;
use crate::device::RingShape;
use crate::filters::Filters;
use crate::spec::OnError;

/// Plan of a block layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockPlan {
    /// The root node.
    pub node: NodePlan,
    /// Its layers, the top one first.
    pub layers: Vec<NamedLayer>,
    /// Those of its layers that lie on servers.
    pub remotes: Vec<RemotePlan>,
    /// Its consumers.
    pub exports: Vec<ExportPlan>,
    /// What stands in front of it.
    pub filters: Filters,
    /// It has a reference: a raw file that everything is held against.
    pub verify: bool,
    /// What is done about errors of requests.
    pub on_error: OnError,
    /// Jobs that a dead predecessor had, and that start again.
    pub jobs: Vec<JobPlan>,
    /// Orders that a dead predecessor had not carried out, and that are carried out before anything is served.
    pub orders: Vec<Unfinished>,
}

/// An order to apply an internal snapshot, of which nobody knows whether it was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The number by which it is answered.
    pub call: u64,
    /// The snapshot.
    pub snapshot: String,
}

impl BlockPlan {
    /// A graph without names, filters and jobs.
    pub fn serving(node: NodePlan, exports: Vec<ExportPlan>) -> Self {
        let (layers, remotes) = (Vec::new(), Vec::new());
        let (jobs, orders) = (Vec::new(), Vec::new());
        let (filters, on_error) = (Filters::default(), OnError::default());
        let verify = false;
        Self { node, layers, remotes, exports, filters, verify, on_error, jobs, orders }
    }
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
    /// The bitmap by which its status tells what is dirty.
    pub bitmap: Option<String>,
    /// CPU of each queue's I/O thread; empty: unplaced.
    pub cpus: Vec<u32>,
}
