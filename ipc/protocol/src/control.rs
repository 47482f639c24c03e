//! Any client ↔ `control` ↔ supervisor: the typed control protocol.
//!
//! A client connects to `…/bulkhead/NAME/control` (SOCK_SEQPACKET), says [`Request::Hello`] and asks
//! one thing at a time. `control` decodes and checks; the supervisor sees only checked requests, by
//! [`ToSupervisor`], and answers by [`FromSupervisor`].

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use crate::block_control::{BlockRequest, BlockResponse};
use crate::class::ProcessClass;
use crate::event::Event;
use crate::launch::{Layer, LayerState};
use crate::soft_cpu::Counters;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First message of a connection.
    Hello {
        /// [`crate::VERSION`] of the client.
        version: u32,
    },
    /// All processes of the instance.
    Processes,
    /// State of the instance.
    Status,
    /// What its software CPU has counted.
    Counters,
    /// Stop the vCPUs.
    Pause,
    /// Let them run.
    Resume,
    /// Press the power button; end after the time-out.
    Shutdown {
        /// Milliseconds the guest has.
        timeout_ms: u64,
    },
    /// End at once.
    Kill,
    /// Reset the machine.
    Reset,
    /// A detached VM's console: the answer brings a stream socket.
    Console,
    /// Send every event from now on.
    Events,
    /// Something about disks.
    Block(Box<BlockRequest>),
}

/// Life cycle of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Processes are being started.
    Starting,
    /// Running.
    Running,
    /// vCPUs are stopped.
    Paused,
    /// The power button was pressed.
    ShuttingDown,
    /// Being torn down.
    Ending,
}

/// Life cycle of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessState {
    /// Started, not ready yet.
    Starting,
    /// Serving.
    Running,
    /// Dead, its successor is being prepared.
    Restarting,
    /// Waits for its next try after repeated faults.
    Degraded,
    /// Not started again after security events.
    Quarantined,
}

/// One process as `bulkhead ps` and `bulkhead audit` need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its class.
    pub role: ProcessClass,
    /// Which one of its class (`d0`; empty if there is only one).
    pub id: String,
    /// Pid in the supervisor's pid namespace; 0 while there is none.
    pub pid: i32,
    /// State.
    pub state: ProcessState,
    /// Successors started so far.
    pub restarts: u64,
    /// What became of each layer of its jail.
    pub layers: Vec<(Layer, LayerState)>,
    /// CPUs it was placed on; empty: not placed.
    pub cpus: Vec<u32>,
}

/// What a client is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Done.
    Done,
    /// Refused, in one sentence.
    Refused(String),
    /// Answer to `Processes`.
    Processes(Vec<ProcessInfo>),
    /// Answer to `Status`.
    Status {
        /// Instance name.
        name: String,
        /// State.
        state: InstanceState,
        /// vCPUs; 0 for storage.
        cpus: u32,
        /// Guest memory in bytes; 0 for storage.
        memory: u64,
    },
    /// Answer to `Counters`; `None`: it has no software CPU.
    Counters(Option<Counters>),
    /// Answer to `Console`. Descriptor: a stream socket.
    Console,
    /// One event of those asked for by `Events`.
    Event(Event),
    /// Answer to `Block`.
    Block(BlockResponse),
}

/// From `control` to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToSupervisor {
    /// Number by which the answer names the call.
    pub call: u64,
    /// The checked request.
    pub request: Request,
}

/// Plan and commands of the `control` process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSupervisor {
    /// First message. Descriptor: the listening socket.
    Plan,
    /// Answer to a call; its descriptors are the response's.
    Answer {
        /// The call.
        call: u64,
        /// The answer.
        response: Response,
    },
    /// An event, for every client that asked for them.
    Happened(Event),
}

impl Message for Request {}

impl Message for Response {
    fn fd_count(&self) -> usize {
        usize::from(matches!(self, Self::Console))
    }
}

impl Message for ToSupervisor {}

impl Message for FromSupervisor {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan => 1,
            Self::Answer { response, .. } => response.fd_count(),
            Self::Happened(_) => 0,
        }
    }
}
