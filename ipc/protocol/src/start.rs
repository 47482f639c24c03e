//! Supervisor ↔ every helper, on the helper's descriptor 3.
//!
//! ```text
//! helper                         supervisor
//!   | jailed, exec'd, sealed        |
//!   |--- Sealed(report) ----------->|  attests it from outside
//!   |<-- Role(plan) + fds ----------|
//!   |--- Ready -------------------->|  running
//!   |<-- Heartbeat(n) --------------|
//!   |--- Alive(n, progress) ------->|
//!   |--- Progressed --------------->|  with the first request completed
//!   |<-- Role(command) -------------|
//!   |--- Role(event) -------------->|
//!   |<-- Stop ----------------------|  exits 0
//! ```
//!
//! The plan is the first command of each class's command type. A helper whose channel ends exits.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Where every helper finds its channel.
pub const CHANNEL_FD: i32 = 3;

/// What a helper says about its own seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealReport {
    /// [`crate::VERSION`] of the helper's build.
    pub version: u32,
    /// Landlock ABI that was enforced; 0: the kernel has none.
    pub landlock_abi: u32,
    /// Access rights of newer ABIs that this kernel could not restrict, by name.
    pub landlock_missing: Vec<String>,
    /// A probe after the seal was refused as it must be (an open of `/` by descriptor-less path).
    pub probe_refused: bool,
}

/// To a helper. `C` is the class's own command type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "C: Serialize + DeserializeOwned")]
pub enum ToHelper<C> {
    /// Answer with `Alive` of the same number, from the thread that owns the queue.
    Heartbeat(u64),
    /// The class's own plan or command.
    Role(C),
    /// Finish and exit 0.
    Stop,
}

/// From a helper. `E` is the class's own event type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "E: Serialize + DeserializeOwned")]
pub enum FromHelper<E> {
    /// Sealed; nothing but attestation has happened yet.
    Sealed(SealReport),
    /// The plan is live.
    Ready,
    /// Answer to a heartbeat.
    Alive {
        /// The heartbeat's number.
        number: u64,
        /// Requests completed so far by this incarnation: any growth is progress.
        progress: u64,
    },
    /// A first request is completed. Said unasked, once by each thread that serves at most: an
    /// incarnation that dies between two heartbeats has done its work all the same, and the faults
    /// before it are forgotten.
    Progressed,
    /// The class's own event.
    Role(E),
}

impl<C: Message> Message for ToHelper<C> {
    fn fd_count(&self) -> usize {
        match self {
            Self::Role(command) => command.fd_count(),
            Self::Heartbeat(_) | Self::Stop => 0,
        }
    }
}

impl<E: Message> Message for FromHelper<E> {
    fn fd_count(&self) -> usize {
        match self {
            Self::Role(event) => event.fd_count(),
            _ => 0,
        }
    }
}

/// The event type of classes that have none, and the command type of those that take none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nothing {}

impl Message for Nothing {}
