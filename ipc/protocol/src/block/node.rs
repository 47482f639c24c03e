//! Images: the graph of one disk as its plan has it.
//!
//! Descriptors are named where they are counted; whoever receives takes them in that order.

use serde::{Deserialize, Serialize};

use super::layer::LayerPlan;
use crate::spec::{CacheMode, Part};

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
        /// Which bytes of it are the disk.
        part: Part,
    },
    /// A qcow2 image with its backing files. Descriptors: the image, opened and locked as a raw one; its
    /// external data file, if it has one, likewise; each backing file and its data file, read-only and
    /// without O_DIRECT; unless `read_only`, the journal: a sealed memory object of [`JOURNAL_BYTES`],
    /// the same for every incarnation.
    Qcow2(Qcow2Plan),
    /// Zeroes. No descriptor.
    Null {
        /// Bytes of the disk.
        size: u64,
        /// Refuse writes.
        read_only: bool,
    },
}

impl NodePlan {
    /// Descriptors of its files.
    pub fn fd_count(&self) -> usize {
        let plan = match self {
            Self::Raw { .. } => return 1,
            Self::Null { .. } => return 0,
            Self::Qcow2(plan) => plan,
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
