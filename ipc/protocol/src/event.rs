//! What happened, for people and programs: one JSON line per event.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::block::JobStatus;
use crate::class::ProcessClass;
use crate::crash::{Crash, Word};

/// An event of one VM or storage instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds since the epoch.
    pub time: u64,
    /// The instance's name.
    pub vm: String,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// All processes run; the guest (if there is one) starts.
    Started,
    /// The guest's first port write was seen.
    GuestStarted,
    /// vCPUs are stopped.
    Paused,
    /// vCPUs run again.
    Resumed,
    /// The machine was reset by the guest or the user.
    Reset,
    /// The power button was pressed.
    PowerButton,
    /// The guest crashed.
    GuestCrashed(Crash),
    /// The guest has instructions that the software CPU lacks: they raise #UD in it. Told at most every
    /// few seconds.
    UnknownInstruction {
        /// How many were met so far.
        seen: u64,
        /// Where the last one is.
        rip: Word,
        /// Its bytes in base 16.
        bytes: String,
    },
    /// A helper died.
    HelperDied {
        /// Its class.
        role: ProcessClass,
        /// Which one.
        id: String,
        /// How.
        cause: String,
        /// Whether its filter killed it.
        security: bool,
        /// Its last words, if it left any.
        last_words: String,
    },
    /// A helper missed its heartbeats and was killed.
    HelperHung {
        /// Its class.
        role: ProcessClass,
        /// Which one.
        id: String,
    },
    /// A helper wrote a line to its log. At most a few a second are passed on.
    HelperSaid {
        /// Its class.
        role: ProcessClass,
        /// Which one.
        id: String,
        /// The line, printable ASCII.
        line: String,
    },
    /// A helper serves again.
    HelperRestarted {
        /// Its class.
        role: ProcessClass,
        /// Which one.
        id: String,
        /// Restarts so far.
        restarts: u64,
        /// From the notice of its death until its successor served, in microseconds.
        pause: u64,
    },
    /// A dead helper could not be reaped in time: a request of its may still reach the disk, so it
    /// gets no successor until it is.
    NotReaped {
        /// Its class.
        role: ProcessClass,
        /// Which one.
        id: String,
    },
    /// A device no longer works; it is tried again from time to time.
    Degraded {
        /// The helper's class.
        role: ProcessClass,
        /// Which one.
        id: String,
        /// Why.
        reason: String,
    },
    /// A helper died by its filter too often and is not started again.
    Quarantined {
        /// Its class.
        role: ProcessClass,
        /// Which one.
        id: String,
    },
    /// A device told the guest that it needs a reset.
    NeedsReset {
        /// Which device.
        id: String,
        /// Why.
        reason: String,
    },
    /// A request that killed three incarnations was answered with an error.
    PoisonRequest {
        /// Which device.
        id: String,
    },
    /// A frontend connected to an export.
    FrontendConnected {
        /// Which disk.
        id: String,
    },
    /// A frontend went away.
    FrontendDisconnected {
        /// Which disk.
        id: String,
    },
    /// An export was added, and takes clients.
    ExportAdded {
        /// Which disk.
        id: String,
        /// Its name.
        export: String,
        /// Where clients connect.
        address: String,
    },
    /// An export was removed.
    ExportRemoved {
        /// Which disk.
        id: String,
        /// Its name.
        export: String,
    },
    /// A disk has grown.
    DiskResized {
        /// Which disk.
        id: String,
        /// Bytes.
        size: u64,
    },
    /// A disk is what it was when an internal snapshot was made.
    SnapshotApplied {
        /// Which disk.
        id: String,
        /// The snapshot.
        snapshot: String,
    },
    /// A disk goes over to another chain of files.
    GraphChanged {
        /// Which disk.
        id: String,
        /// Its files from now on, the top layer first.
        layers: Vec<PathBuf>,
    },
    /// The header of an image names another backing file than was given. It is not opened.
    BackingMismatch {
        /// Which disk.
        id: String,
        /// The image.
        path: PathBuf,
        /// What its header says; empty: nothing.
        named: String,
        /// What was given and is used; empty: nothing.
        given: String,
    },
    /// A layer of a disk has no connection with its server any more; its requests wait.
    ServerLost {
        /// Which disk.
        id: String,
        /// Its layer's URI.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It has one again.
    ServerBack {
        /// Which disk.
        id: String,
        /// Its layer's URI.
        path: PathBuf,
    },
    /// A disk does not read as the file that it is held against. The read fails.
    VerifyMismatch {
        /// Which disk.
        id: String,
        /// From which byte on: the first of a sector.
        at: u64,
    },
    /// A job started.
    JobStarted {
        /// Which disk.
        id: String,
        /// Which job.
        job: String,
    },
    /// A job changed its state.
    JobStatusChanged {
        /// Which disk.
        id: String,
        /// Which job.
        job: String,
        /// Its state.
        status: JobStatus,
    },
    /// Disk and target of a job are the same: it may be completed.
    JobReady {
        /// Which disk.
        id: String,
        /// Which job.
        job: String,
    },
    /// A job has done what it was for.
    JobCompleted {
        /// Which disk.
        id: String,
        /// Which job.
        job: String,
        /// Bytes done.
        offset: u64,
        /// Bytes in all.
        len: u64,
    },
    /// A job was cancelled.
    JobCancelled {
        /// Which disk.
        id: String,
        /// Which job.
        job: String,
        /// Bytes done.
        offset: u64,
        /// Bytes in all.
        len: u64,
    },
    /// A job could not go on.
    JobFailed {
        /// Which disk.
        id: String,
        /// Which job.
        job: String,
        /// Why.
        reason: String,
    },
    /// The block layer of a job died; the job begins again in its successor.
    JobRestarted {
        /// Which disk.
        id: String,
        /// Which job.
        job: String,
    },
    /// A block layer died, and with it a dirty bitmap that it kept in memory only.
    BitmapLost {
        /// Which disk.
        id: String,
        /// Its name.
        bitmap: String,
    },
    /// A request or a job met an error.
    BlockError {
        /// Which disk.
        id: String,
        /// Which job; none: the guest's request.
        job: Option<String>,
        /// What was to be done.
        operation: String,
        /// Errno.
        errno: i32,
        /// It waits until it is resumed, or until there is space.
        paused: bool,
    },
    /// No request waits any more after an error.
    BlockErrorOver {
        /// Which disk.
        id: String,
    },
    /// The instance ended.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

/// Why an instance ended. [`EndReason::exit_code`] is what the command exits with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The guest powered itself off.
    PowerOff,
    /// The guest was reset and `--no-reboot` was given.
    Reset,
    /// The user ended it (`shutdown` after its time-out, `kill`, SIGTERM, SIGINT).
    Killed,
    /// The guest wrote this to the debug-exit port.
    DebugExit(u32),
    /// The guest crashed and the action was to stop.
    GuestCrashed(String),
    /// Core, launcher or control could not go on, or the start failed.
    Failed(String),
}

impl EndReason {
    /// Exit code of `bulkhead run` and `bulkhead storage`.
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::PowerOff | Self::Reset | Self::Killed => 0,
            Self::Failed(_) => 1,
            Self::GuestCrashed(_) => 3,
            // As QEMU's isa-debug-exit has it, of which an exit code keeps eight bits.
            Self::DebugExit(result) => (*result << 1 | 1) as u8 as i32,
        }
    }
}
