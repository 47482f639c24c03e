//! What an instance leaves in its folder for other commands to read: `…/bulkhead/NAME/state.json`.
//!
//! Written once by the supervisor before anything else is started. Whoever finds the folder's lock
//! free knows that the supervisor is dead, and collects what the record names. Nobody's authority
//! rests on it: it is read by the same user's commands only.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Name of the record in an instance's folder.
pub const RECORD: &str = "state.json";

/// Name of the file whose lock the supervisor holds as long as it lives.
pub const LOCK: &str = "lock";

/// Name of the control socket.
pub const CONTROL: &str = "control";

/// What an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceKind {
    /// `bulkhead run`.
    Vm,
    /// `bulkhead storage`.
    Storage,
}

/// An image the instance has locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecord {
    /// The disk's name in its instance.
    pub id: String,
    /// As the user wrote it.
    pub path: PathBuf,
    /// `st_dev` of the image; `st_rdev` for a block device.
    pub device: u64,
    /// `st_ino` of the image; 0 for a block device.
    pub inode: u64,
    /// It was opened for reading only.
    pub read_only: bool,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceRecord {
    /// [`crate::VERSION`] of the supervisor.
    pub version: u32,
    /// The instance's name.
    pub name: String,
    /// What it is.
    pub kind: InstanceKind,
    /// The supervisor's pid.
    pub pid: i32,
    /// Microseconds since the epoch at which it was started.
    pub started: u64,
    /// Images it has locked.
    pub images: Vec<ImageRecord>,
    /// Listening sockets outside the folder, absolute.
    pub sockets: Vec<PathBuf>,
    /// Cgroup folders it has made, absolute.
    pub cgroups: Vec<PathBuf>,
}
