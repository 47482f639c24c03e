//! One connection's life, and what the driver wants meanwhile.

use bulkhead_virtio_transport::Activation;

use crate::backend_requests::BackendRequests;
use crate::exchange::Exchange;
use crate::handshake::Handshake;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The handshake is under way.
    Shaking,
    /// No queue runs.
    Idle,
    /// The in-flight table is being cleared; no queue runs yet.
    Clearing,
    /// The queues were told to run.
    Starting {
        /// Another backend served them before.
        resumed: bool,
    },
    /// The queues run.
    Serving,
    /// The queues were told to stop.
    Stopping,
}

/// A connection.
pub(crate) struct Link {
    pub exchange: Exchange,
    pub handshake: Handshake,
    pub requests: Option<BackendRequests>,
    pub phase: Phase,
    /// The backend has the memory table.
    pub knows_memory: bool,
    /// The configuration space has changed and was not read since.
    pub config_changed: bool,
}

/// What the driver wants of the device.
#[derive(Debug)]
pub(crate) enum Driver {
    /// Nothing: the device is reset.
    Down,
    /// To run, from the beginning: no backend has seen its queues.
    Fresh(Activation),
    /// To run. Some backend has seen the queues, so they are resumed, never begun again.
    Running(Activation),
    /// To run, but requests were lost: nothing but a reset helps.
    Ruined,
    /// A reset, which is not complete.
    Leaving(Activation),
}
