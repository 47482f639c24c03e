//! Orders: what a block layer is asked besides its plan, each answered once.

use serde::{Deserialize, Serialize};

use super::job::{JobPlan, JobReport};
use super::layer::{LayerNumber, TargetPlan};
use crate::block_control::{BitmapAction, BitmapState, InternalAction, JobAction};
use crate::filters::Limits;

/// What a block-layer is asked, besides its plan. Each is answered once, by [`super::BlockEvent::Answer`].
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
        /// What. To apply it is carried out once, whatever dies meanwhile: `Switching` with the same chain
        /// comes when the disk has gone back, and nothing is served before `Switched`.
        action: InternalAction,
        /// Seconds since the epoch.
        time: u64,
    },
    /// More room: the top layer grows.
    Resize {
        /// Bytes.
        size: u64,
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
