//! Any client ↔ supervisor about disks: what `bulkhead block …` asks, and what it is answered.
//!
//! Carried by [`crate::control`] like every request. Names are QEMU's where it has one. Paths are absolute:
//! the supervisor opens them, and its working directory is not the client's.
//!
//! Law: [`BlockRequest::check`] holds for everything that the supervisor sees; `control` asks it.

mod check;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::block::{JobReport, LayerFormat};
use crate::filters::Limits;
use crate::session::Refusal;
use crate::spec::{ExportSpec, NbdSpec, ServerSpec};

pub use check::Malformed;

/// Longest name of a disk, a job, a bitmap or an internal snapshot in bytes. QEMU's bitmaps have up to 1023;
/// longer ones than ours are seen, and not worked with.
pub const LONGEST_NAME: usize = 255;

/// Longest path in bytes, as the kernel has it. In a header of a qcow2 image there is room for 1023.
pub const LONGEST_PATH: usize = 4095;

/// Longest name of a backing file in a header of a qcow2 image.
pub const LONGEST_BACKING_FILE: usize = 1023;

/// Disks in one transaction.
pub const MOST_OVERLAYS: usize = 16;

/// Bitmaps merged into another at once.
pub const MOST_MERGED: usize = 64;

/// Most addresses of a server.
pub const MOST_ADDRESSES: usize = 16;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockRequest {
    /// Every disk's graph.
    Query,
    /// Every job.
    Jobs,
    /// New top layers on several disks: on all of them or on none.
    Snapshot(Vec<OverlaySpec>),
    /// Start a job.
    Start(StartSpec),
    /// Do something about a job.
    Job {
        /// Its name.
        job: String,
        /// What.
        action: JobAction,
    },
    /// Do something about a dirty bitmap.
    Bitmap {
        /// Disk.
        disk: String,
        /// Its name.
        bitmap: String,
        /// What.
        action: BitmapAction,
    },
    /// Do something about an internal snapshot of the top layer.
    InternalSnapshot {
        /// Disk.
        disk: String,
        /// Its name.
        snapshot: String,
        /// What.
        action: InternalAction,
    },
    /// A larger size.
    Resize {
        /// Disk.
        disk: String,
        /// Bytes.
        size: u64,
    },
    /// Other limits.
    Throttle {
        /// Disk.
        disk: String,
        /// Which.
        limits: Limits,
    },
    /// Requests that failed and wait are tried again.
    Resume {
        /// Disk.
        disk: String,
    },
    /// Every export.
    Exports,
    /// One more NBD export of a disk.
    AddExport(NbdSpec),
    /// The export of a storage instance's disk for vhost-user frontends.
    AddVhostUserExport(ExportSpec),
    /// An export less.
    RemoveExport {
        /// Its name.
        export: String,
        /// Also if it has clients, who see a hang-up.
        force: bool,
    },
}

/// A new top layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaySpec {
    /// Disk.
    pub disk: String,
    /// Its file.
    pub file: FileSpec,
}

/// A file that a job or a snapshot writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Where.
    pub path: PathBuf,
    /// It is no file but lies on a server, and `path` is its URI.
    pub server: Option<ServerSpec>,
    /// Its format.
    pub format: LayerFormat,
    /// It is there and has its format and size; otherwise it is made, and must not be there.
    pub existing: bool,
    /// Bytes of a cluster of a new qcow2 image; 0: 64 KiB.
    pub cluster_size: u32,
}

/// A job to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSpec {
    /// Disk.
    pub disk: String,
    /// Its name; empty: named by its kind and the disk.
    pub job: String,
    /// Bytes a second at most; 0: as fast as it goes.
    pub speed: u64,
    /// It stays in the list after its end, until it is dismissed.
    pub keep: bool,
    /// What it does when a read fails.
    pub on_source_error: ErrorPolicy,
    /// What it does when a write fails.
    pub on_target_error: ErrorPolicy,
    /// What it does.
    pub kind: JobSpec,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobSpec {
    /// Copies what lies below the top layer into it.
    Stream {
        /// The layer that stays below; none: the top layer stands alone afterwards.
        base: Option<PathBuf>,
        /// How the top layer's header names it; none: by its path.
        backing_file: Option<String>,
    },
    /// Writes layers into one below them.
    Commit {
        /// The highest one that is written down; none: the top layer of the disk.
        top: Option<PathBuf>,
        /// Into which; none: the lowest.
        base: Option<PathBuf>,
        /// How the header of the layer above `top` names the base; none: by its path.
        backing_file: Option<String>,
    },
    /// Copies the disk and what is written to it meanwhile, until it is completed.
    Mirror {
        /// Into which file.
        target: FileSpec,
        /// How much.
        sync: Extent,
        /// Bytes that are copied together; 0: 64 KiB.
        granularity: u32,
        /// When the guest's writes reach the target.
        mode: CopyMode,
    },
    /// Copies the disk as it is at this moment.
    Backup {
        /// Into which file.
        target: FileSpec,
        /// How much.
        sync: Extent,
        /// The bitmap of an incremental one.
        bitmap: Option<String>,
    },
}

/// How much of a disk is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// All of it.
    Full,
    /// What its top layer has.
    Top,
    /// What is written from now on.
    None,
    /// What a bitmap says is dirty; the bitmap is cleared if it succeeds.
    Incremental,
    /// What a bitmap says is dirty; the bitmap stays as it is.
    Bitmap,
}

/// When a guest's write reaches a mirror's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyMode {
    /// Some time later.
    #[default]
    Background,
    /// Before it is answered.
    WriteBlocking,
}

/// What is done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorPolicy {
    /// The requester is told.
    #[default]
    Report,
    /// It is passed over.
    Ignore,
    /// It pauses until it is resumed.
    Stop,
    /// It pauses when the host is short of space, and otherwise the requester is told.
    Enospc,
}

/// What is done about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobAction {
    /// Stop copying for now.
    Pause,
    /// Go on.
    Resume,
    /// End without a result. A mirror that is ready ends with its target complete, and the disk as it was.
    Cancel,
    /// End: the disk goes over to the target.
    Complete,
    /// Forget a job that has ended, or as soon as it ends.
    Dismiss,
    /// Bytes a second at most; 0: as fast as it goes.
    SetSpeed(u64),
}

/// What is done about a bitmap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BitmapAction {
    /// Make it.
    Add {
        /// Bytes of a bit; 0: 64 KiB.
        granularity: u32,
        /// It is kept in the image.
        persistent: bool,
        /// It does not record yet.
        disabled: bool,
    },
    /// Remove it.
    Remove,
    /// Nothing is dirty any more.
    Clear,
    /// Record.
    Enable,
    /// Do not record.
    Disable,
    /// Add what these others say.
    Merge(Vec<String>),
}

/// What is done about an internal snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InternalAction {
    /// Make it.
    Create,
    /// The disk becomes what it was then.
    Apply,
    /// Delete it.
    Delete,
}

/// What a client is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockResponse {
    /// Done.
    Done,
    /// The job of this name runs.
    Started(String),
    /// Answer to `Query`.
    Disks(Vec<DiskState>),
    /// Answer to `Jobs`.
    Jobs(Vec<JobState>),
    /// Answer to `Exports`.
    Exports(Vec<ExportState>),
    /// The export of this name takes clients.
    Added(String),
    /// It cannot be had.
    Refused(Refusal),
}

/// A disk as `bulkhead block query` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskState {
    /// Its name.
    pub disk: String,
    /// Bytes that the guest sees.
    pub size: u64,
    /// Its block layer serves. If not, it is being replaced, and what follows is as far as it is known here.
    pub serving: bool,
    /// Its files, the top layer first.
    pub layers: Vec<LayerState>,
    /// Dirty bitmaps.
    pub bitmaps: Vec<BitmapState>,
    /// Internal snapshots of the top layer.
    pub snapshots: Vec<String>,
    /// Jobs on it.
    pub jobs: Vec<JobState>,
}

/// A file of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerState {
    /// As it was given.
    pub path: PathBuf,
    /// Its format.
    pub format: LayerFormat,
    /// Bytes of the disk that it is.
    pub size: u64,
    /// Bytes that it takes on the host.
    pub allocated: u64,
    /// The name of the next layer in its header, if it has one.
    pub backing_name: Option<String>,
}

/// A dirty bitmap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BitmapState {
    /// Its name.
    pub name: String,
    /// Bytes of a bit.
    pub granularity: u32,
    /// Bytes that are dirty.
    pub dirty: u64,
    /// It records.
    pub recording: bool,
    /// It is kept in the image.
    pub persistent: bool,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobState {
    /// Disk.
    pub disk: String,
    /// The rest.
    pub report: JobReport,
}

/// An export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExportState {
    /// By which it is removed.
    pub export: String,
    /// `nbd` or `vhost-user-blk`.
    pub kind: String,
    /// Disk.
    pub disk: String,
    /// Where clients connect.
    pub address: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Its process serves. If not, it is being started or replaced.
    pub serving: bool,
}
