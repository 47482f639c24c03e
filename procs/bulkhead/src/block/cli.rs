//! `bulkhead block …`: what may be typed, and its help. Names are QEMU's where it has one.

use clap::{Args, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  bulkhead block query web
  bulkhead block snapshot web --disk d0,path=/vm/d0-monday.qcow2 --disk d1,path=/vm/d1-monday.qcow2
  bulkhead block commit web d0 --wait
  bulkhead block commit web d0 --top /vm/tuesday.qcow2 --base /vm/monday.qcow2 --wait
  bulkhead block mirror web d0 --target path=/new/d0.qcow2,format=qcow2 --wait
  bulkhead block job complete web mirror-d0
  bulkhead block internal-snapshot create web d0 monday
  bulkhead pause web && bulkhead block internal-snapshot apply web d0 monday && bulkhead reset web && bulkhead resume web
  bulkhead block export add web nbd,disk=d0,socket=/run/d0.nbd,readonly
  bulkhead block export add s0 vhost-user-blk,disk=d0,socket=/run/d0.sock,queues=2
  bulkhead block backup web d0 --target path=/backup/d0.raw,format=raw --speed 100M --wait

NAME is an instance of 'bulkhead run' or 'bulkhead storage'; ID is one of its disks. Files are made unless
'existing' says that they are there. What is under way outlives the death of a block layer.";

/// Options of `block`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BlockOptions {
    #[command(subcommand)]
    pub command: BlockCommand,
}

/// What can be done about disks.
#[derive(Debug, Subcommand)]
pub enum BlockCommand {
    /// Show every disk: its files, sizes, bitmaps and jobs
    Query(Listing),
    /// Give disks a new top layer each: all of them, or none
    Snapshot(SnapshotOptions),
    /// Copy what lies below the top layer into it
    Stream(StreamOptions),
    /// Write layers into one below them; of the top one, 'job complete' goes over to the base
    Commit(CommitOptions),
    /// Copy a disk, and what is written to it meanwhile; 'job complete' goes over to the copy
    Mirror(MirrorOptions),
    /// Copy a disk as it is at this moment
    Backup(BackupOptions),
    /// Show every job
    Jobs(Listing),
    /// Pause, resume, cancel, complete or dismiss a job, or set its speed
    #[command(subcommand)]
    Job(JobCommand),
    /// Add, remove, clear, enable, disable or merge dirty bitmaps
    #[command(subcommand)]
    Bitmap(BitmapCommand),
    /// Create, apply, delete or list snapshots inside the top layer's image
    #[command(subcommand)]
    InternalSnapshot(InternalCommand),
    /// Add, remove or list exports
    #[command(subcommand)]
    Export(ExportCommand),
    /// Try requests again that failed and wait (rerror=stop, werror=stop)
    Resume(DiskOf),
    /// Let a disk grow: its image, and what its users see of it
    Resize {
        #[command(flatten)]
        disk: DiskOf,
        /// Its size from now on, e.g. 20G
        size: String,
    },
    /// Limit requests and bytes a second: iops=N,bps=SIZE,iops-max=N,bps-max=SIZE; 0 lifts a limit
    Throttle(ThrottleOptions),
}

/// An instance, and the form of the answer.
#[derive(Debug, Args)]
pub struct Listing {
    /// Name of the instance
    pub name: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// A disk of an instance.
#[derive(Debug, Args)]
pub struct DiskOf {
    /// Name of the instance
    pub name: String,
    /// Disk
    #[arg(value_name = "ID")]
    pub disk: String,
}

/// Options of `block snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotOptions {
    /// Name of the instance
    pub name: String,
    /// A disk and its new layer: ID,path=FILE[,cluster-size=SIZE,existing]; may be given again
    #[arg(long = "disk", value_name = "ID,path=FILE", required = true)]
    pub disks: Vec<String>,
}

/// What every job may be told.
#[derive(Debug, Args)]
pub struct JobOptions {
    /// Name of the job [default: its kind and the disk, as in mirror-d0]
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,
    /// Bytes a second at most, e.g. 100M [default: as fast as it goes]
    #[arg(long, value_name = "SIZE")]
    pub speed: Option<String>,
    /// When a read fails
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Policy::Report)]
    pub on_source_error: Policy,
    /// When a write fails
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Policy::Enospc)]
    pub on_target_error: Policy,
    /// Return when it has ended or is ready; on a terminal with a line of progress
    #[arg(long)]
    pub wait: bool,
    /// Keep it in the list after its end, until it is dismissed
    #[arg(long)]
    pub keep: bool,
}

/// What is done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// The job fails
    Report,
    /// It goes on
    Ignore,
    /// It pauses until it is resumed
    Stop,
    /// It pauses if the host is short of space, and otherwise fails
    Enospc,
}

/// Options of `block stream`.
#[derive(Debug, Args)]
pub struct StreamOptions {
    #[command(flatten)]
    pub disk: DiskOf,
    /// The layer that stays below [default: none]
    #[arg(long, value_name = "PATH")]
    pub base: Option<String>,
    /// How the top layer's header is to name that [default: its path]
    #[arg(long, value_name = "NAME", requires = "base")]
    pub backing_file: Option<String>,
    #[command(flatten)]
    pub job: JobOptions,
}

/// Options of `block commit`.
#[derive(Debug, Args)]
pub struct CommitOptions {
    #[command(flatten)]
    pub disk: DiskOf,
    /// The highest layer that is written down [default: the top one, and the disk goes over to the base]
    #[arg(long, value_name = "PATH")]
    pub top: Option<String>,
    /// Into which [default: the lowest]
    #[arg(long, value_name = "PATH")]
    pub base: Option<String>,
    /// How the header of the layer above --top is to name the base [default: its path]
    #[arg(long, value_name = "NAME", requires = "top")]
    pub backing_file: Option<String>,
    #[command(flatten)]
    pub job: JobOptions,
}

/// How much of a disk is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sync {
    /// All of it
    Full,
    /// What its top layer has; the copy lies on the same backing files
    Top,
    /// What is written from now on
    None,
    /// What a bitmap says is dirty; the bitmap is cleared if it succeeds
    Incremental,
    /// What a bitmap says is dirty
    Bitmap,
}

/// When writes reach a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Some time later
    Background,
    /// Before they are answered
    WriteBlocking,
}

/// Options of `block mirror`.
#[derive(Debug, Args)]
pub struct MirrorOptions {
    #[command(flatten)]
    pub disk: DiskOf,
    /// The copy: path=FILE,format=raw|qcow2[,cluster-size=SIZE,existing], or nbd=URI,format=raw|qcow2 on a server
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub target: String,
    /// How much: full, top or none
    #[arg(long, value_enum, default_value_t = Sync::Full)]
    pub sync: Sync,
    /// Bytes that are copied together, e.g. 64K [default: 64K]
    #[arg(long, value_name = "SIZE")]
    pub granularity: Option<String>,
    /// When writes reach the copy
    #[arg(long, value_enum, default_value_t = Mode::Background)]
    pub copy_mode: Mode,
    #[command(flatten)]
    pub job: JobOptions,
}

/// Options of `block backup`.
#[derive(Debug, Args)]
pub struct BackupOptions {
    #[command(flatten)]
    pub disk: DiskOf,
    /// The copy: path=FILE,format=raw|qcow2[,cluster-size=SIZE,existing], or nbd=URI,format=raw|qcow2 on a server
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub target: String,
    /// How much
    #[arg(long, value_enum, default_value_t = Sync::Full)]
    pub sync: Sync,
    /// The bitmap of --sync incremental and bitmap
    #[arg(long, value_name = "BITMAP")]
    pub bitmap: Option<String>,
    #[command(flatten)]
    pub job: JobOptions,
}

/// A job of an instance.
#[derive(Debug, Args)]
pub struct JobOf {
    /// Name of the instance
    pub name: String,
    /// Job
    pub job: String,
}

/// What is done about a job.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Stop copying for now
    Pause(JobOf),
    /// Go on
    Resume(JobOf),
    /// End it; of a mirror that is ready, leave its target as it is
    Cancel(JobOf),
    /// End a job that is ready: the disk goes over to the result
    Complete(JobOf),
    /// Forget a job that has ended, or as soon as it ends
    Dismiss(JobOf),
    /// Bytes a second at most, e.g. 10M; 0: as fast as it goes
    SetSpeed {
        #[command(flatten)]
        of: JobOf,
        /// Speed
        #[arg(value_name = "SIZE")]
        speed: String,
    },
}

/// A bitmap of a disk.
#[derive(Debug, Args)]
pub struct BitmapOf {
    #[command(flatten)]
    pub disk: DiskOf,
    /// Bitmap
    pub bitmap: String,
}

/// What is done about a bitmap.
#[derive(Debug, Subcommand)]
pub enum BitmapCommand {
    /// Make one, which records from now on
    Add {
        #[command(flatten)]
        of: BitmapOf,
        /// Bytes of a bit [default: 64K]
        #[arg(long, value_name = "SIZE")]
        granularity: Option<String>,
        /// Keep it in the image
        #[arg(long)]
        persistent: bool,
        /// It does not record before it is enabled
        #[arg(long)]
        disabled: bool,
    },
    /// Remove one
    Remove(BitmapOf),
    /// Nothing is dirty any more
    Clear(BitmapOf),
    /// Record
    Enable(BitmapOf),
    /// Do not record
    Disable(BitmapOf),
    /// Add to one what others say is dirty
    Merge {
        #[command(flatten)]
        of: BitmapOf,
        /// The others
        #[arg(required = true)]
        others: Vec<String>,
    },
}

/// What is done about an internal snapshot.
#[derive(Debug, Subcommand)]
pub enum InternalCommand {
    /// Make one
    Create {
        #[command(flatten)]
        disk: DiskOf,
        /// Its name
        snapshot: String,
    },
    /// Go back to one: what was written since is gone; a VM must be paused, and its guest reset afterwards
    #[command(visible_alias = "goto")]
    Apply {
        #[command(flatten)]
        disk: DiskOf,
        /// Its name
        snapshot: String,
    },
    /// Delete one
    Delete {
        #[command(flatten)]
        disk: DiskOf,
        /// Its name
        snapshot: String,
    },
    /// List them
    List(DiskOf),
}

/// What is done about an export.
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Give other programs a disk from now on: over NBD, or, of 'bulkhead storage', to vhost-user frontends
    Add {
        /// Name of the instance
        name: String,
        /// nbd,disk=ID,socket=PATH|addr=HOST:PORT[,id=EXPORT,name=NAME,readonly,bitmap=BITMAP,tls-creds=DIR], or
        /// vhost-user-blk,disk=ID,socket=PATH[,queues=N,readonly]
        #[arg(value_name = "nbd|vhost-user-blk,KEY=VALUE,…")]
        export: String,
    },
    /// End one that has no clients
    Remove {
        /// Name of the instance
        name: String,
        /// Export
        export: String,
        /// Also if it has clients: they see a hang-up
        #[arg(long)]
        force: bool,
    },
    /// List them
    List(Listing),
}

/// Options of `block throttle`.
#[derive(Debug, Args)]
pub struct ThrottleOptions {
    #[command(flatten)]
    pub disk: DiskOf,
    /// Limits of all requests: iops=, bps=, and of bursts: iops-max=, bps-max=; of a part of them by QEMU's names:
    /// iops-read=, bps-write-max=, bps-write-max-length=, iops-size= and so on; what is not given is unlimited
    #[arg(value_name = "KEY=VALUE,…")]
    pub limits: String,
}
