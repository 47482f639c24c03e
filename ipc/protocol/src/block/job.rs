//! Jobs: as they are ordered, as they are reported, and how they end.

use serde::{Deserialize, Serialize};

use super::layer::{LayerNumber, TargetPlan};
use crate::block_control::{CopyMode, ErrorPolicy, Extent};
use crate::spec::CacheMode;

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

impl JobPlan {
    /// Descriptors that it needs.
    pub fn fd_count(&self) -> usize {
        match &self.kind {
            JobKind::Stream { .. } => 0,
            JobKind::Commit { data_file, journal, above, .. } => {
                1 + usize::from(*data_file) + usize::from(*journal) + usize::from(above.is_some())
            }
            JobKind::Mirror { target, .. } | JobKind::Backup { target, .. } => target.fd_count(),
        }
    }
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    /// Copies what lies below the top layer, down to `base`, into the top layer.
    Stream {
        /// Stays; none: nothing does.
        base: Option<LayerNumber>,
        /// How the top layer's header names the base, if not by its path.
        backing_file: Option<String>,
    },
    /// Writes the layers from `top` down into `base`, which is below. Descriptors: the base, opened and
    /// locked for writing; its data file, if it has one; if it is qcow2, its journal; if there is one, the file of
    /// `above`, opened and locked for writing.
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
        /// The layer above `top`, if that is only read otherwise: its header is to name the base.
        above: Option<LayerNumber>,
        /// How the layer above names the base, if not by its path.
        backing_file: Option<String>,
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

impl JobKind {
    /// The layer of its target, if that lies on a server.
    pub fn server(&self) -> Option<LayerNumber> {
        match self {
            Self::Mirror { target, .. } | Self::Backup { target, .. } => {
                target.remote.as_ref().map(|remote| remote.layer)
            }
            Self::Stream { .. } | Self::Commit { .. } => None,
        }
    }
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
