//! What a block-tool is told to do.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use super::image::NewImage;
use crate::block::{LayerPlan, RemotePlan};

/// A disk. Descriptors: of each layer its file, or a socket to its server; its data file if it has one; its
/// secret if it has one, as [`secret`](crate::block::secret) lays it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDisk {
    /// The layers, the top one first.
    pub layers: Vec<LayerPlan>,
    /// Places of those that were opened for writing.
    pub written: Vec<u16>,
    /// Of layers that lie on servers, where.
    pub remotes: Vec<RemotePlan>,
}

impl PlannedDisk {
    /// Descriptors that it needs.
    pub fn fd_count(&self) -> usize {
        let of = |layer: &LayerPlan| 1 + usize::from(layer.data_file) + usize::from(layer.secret);
        self.layers.iter().map(of).sum()
    }
}

/// What may be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repair {
    /// Nothing.
    Nothing,
    /// Clusters that are counted and not used.
    Leaks,
    /// All counts and flags.
    All,
}

/// Another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SizeChange {
    /// So many bytes.
    To(u64),
    /// So many more.
    More(u64),
    /// So many fewer.
    Fewer(u64),
}

/// Something about internal snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotAction {
    /// Tell them all.
    List,
    /// Take one.
    Create {
        /// Its name.
        name: String,
        /// When: seconds since 1970.
        seconds: u32,
        /// And the rest of them.
        nanoseconds: u32,
    },
    /// Go back to this one.
    Apply(String),
    /// Remove this one.
    Delete(String),
}

/// A change of a bitmap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BitmapChange {
    /// It is made.
    Add {
        /// Bytes of a granule; none: as usual.
        granularity: Option<u64>,
        /// It records from now on.
        enabled: bool,
    },
    /// It goes.
    Remove,
    /// All of it is clean.
    Clear,
    /// It records, or not.
    Enable(bool),
    /// It takes over what another has.
    Merge(String),
}

/// Another option of an image that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amendment {
    /// 2 or 3.
    Version(u32),
    /// The lazy-refcounts feature.
    LazyRefcounts(bool),
    /// Bits of a refcount.
    RefcountBits(u32),
    /// Bytes of the disk.
    Size(u64),
    /// Name and format of the backing file, each as it is if not given.
    Backing {
        /// Its name; empty: none.
        name: Option<String>,
        /// Its format.
        format: Option<String>,
    },
}

/// `convert`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvertPlan {
    /// The sources, one behind the other.
    pub sources: Vec<PlannedDisk>,
    /// The internal snapshot of the source that is copied, instead of what it is now.
    pub snapshot: Option<String>,
    /// What the target is to be. With `existing` only its format counts.
    pub target: NewImage,
    /// The target is there already.
    pub existing: Option<PlannedDisk>,
    /// The target reads as zeroes.
    pub target_is_zero: bool,
    /// Clusters are compressed.
    pub compress: bool,
    /// Zeroes in a row that are not written; 0: all are written.
    pub sparse: u64,
    /// Bitmaps of the source are copied too.
    pub bitmaps: Option<BrokenBitmaps>,
    /// Pieces that are on their way at a time.
    pub pieces: u16,
    /// They may be written in any order.
    pub any_order: bool,
}

/// `bench`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchPlan {
    /// Requests.
    pub count: u64,
    /// At a time.
    pub depth: u64,
    /// Where the first is.
    pub offset: u64,
    /// Bytes of each.
    pub size: u64,
    /// From one to the next.
    pub step: u64,
    /// Write this byte; none: read.
    pub write: Option<u8>,
    /// Flush after so many.
    pub flush_interval: Option<u64>,
    /// Flushes wait for nothing.
    pub careless: bool,
    /// The host does not cache: every request waits for the device.
    pub direct: bool,
}

/// The first message, and the only one. Descriptors: those of its disks and images, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolCommand {
    /// Make an image.
    Create(NewImage),
    /// What is it?
    Info(PlannedDisk),
    /// Is its metadata right?
    Check {
        /// It.
        disk: PlannedDisk,
        /// What may be repaired.
        repair: Repair,
    },
    /// Where is every byte?
    Map(PlannedDisk),
    /// Copy a disk into another image.
    Convert(Box<ConvertPlan>),
    /// Do two disks read the same?
    Compare {
        /// One.
        first: PlannedDisk,
        /// The other.
        second: PlannedDisk,
        /// Sizes, and what is allocated, must be equal too.
        strict: bool,
    },
    /// Change the size.
    Resize {
        /// It.
        disk: PlannedDisk,
        /// To what.
        size: SizeChange,
        /// Data may be cut off.
        shrink: bool,
        /// What is done with what is added.
        preallocation: super::Preallocation,
    },
    /// How much room would an image of this disk need?
    Measure {
        /// The disk; none: an empty one of the image's size.
        disk: Option<PlannedDisk>,
        /// Of this snapshot of it.
        snapshot: Option<String>,
        /// The image, which is not there: it has no descriptors.
        image: NewImage,
    },
    /// Something about internal snapshots.
    Snapshot {
        /// Of this image.
        disk: PlannedDisk,
        /// What.
        action: SnapshotAction,
    },
    /// Changes of a persistent bitmap.
    Bitmap {
        /// Of this image.
        disk: PlannedDisk,
        /// The image of merged bitmaps, if it is another.
        source: Option<PlannedDisk>,
        /// Its name.
        name: String,
        /// What, in this order.
        changes: Vec<BitmapChange>,
    },
    /// Give an image another backing file.
    Rebase {
        /// The image with its files as they are.
        disk: PlannedDisk,
        /// The new backing file with its files.
        new: Option<PlannedDisk>,
        /// What the header names from now on: name and format.
        named: Option<(String, String)>,
        /// Only the name changes.
        only_name: bool,
    },
    /// Move what an image has into a file below it.
    Commit {
        /// The image with its files.
        disk: PlannedDisk,
        /// Place of the file among the layers.
        base: u16,
        /// The image is empty afterwards.
        empties: bool,
    },
    /// Change options of an image.
    Amend {
        /// The image.
        disk: PlannedDisk,
        /// What, in this order.
        amendments: Vec<Amendment>,
    },
    /// Copy a part of a disk into a fresh image.
    Dd {
        /// The disk.
        source: PlannedDisk,
        /// The image.
        target: NewImage,
        /// First byte.
        skip: u64,
        /// Bytes at most.
        count: u64,
    },
    /// Measure how fast requests are.
    Bench {
        /// On this disk.
        disk: PlannedDisk,
        /// How.
        plan: BenchPlan,
    },
}

/// What becomes of bitmaps that were not closed when others are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokenBitmaps {
    /// They end it.
    Refused,
    /// They are left out.
    Skipped,
}

impl Message for ToolCommand {
    fn fd_count(&self) -> usize {
        let of = |disk: &Option<PlannedDisk>| disk.as_ref().map_or(0, PlannedDisk::fd_count);
        match self {
            Self::Create(image) => image.fd_count(),
            Self::Convert(plan) => {
                let sources: usize = plan.sources.iter().map(PlannedDisk::fd_count).sum();
                let target = plan.existing.as_ref();
                sources + target.map_or_else(|| plan.target.fd_count(), PlannedDisk::fd_count)
            }
            Self::Compare { first, second, .. } => first.fd_count() + second.fd_count(),
            Self::Measure { disk, .. } => of(disk),
            Self::Bitmap { disk, source, .. } => disk.fd_count() + of(source),
            Self::Rebase { disk, new, .. } => disk.fd_count() + of(new),
            Self::Dd { source, target, .. } => source.fd_count() + target.fd_count(),
            Self::Info(disk)
            | Self::Map(disk)
            | Self::Check { disk, .. }
            | Self::Resize { disk, .. }
            | Self::Snapshot { disk, .. }
            | Self::Commit { disk, .. }
            | Self::Amend { disk, .. }
            | Self::Bench { disk, .. } => disk.fd_count(),
        }
    }
}
