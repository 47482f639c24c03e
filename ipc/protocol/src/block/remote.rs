//! Layers whose bytes lie on another program's NBD server.
//!
//! A plan names their descriptors where a file's would be: one socket each, connected or about to be. A
//! block layer that wants another says so; it never connects by itself.

use serde::{Deserialize, Serialize};

use super::layer::LayerNumber;
use crate::nbd::TlsClientPlan;

/// Most connections with one server.
pub const MOST_CONNECTIONS: u16 = 16;

/// Most connections of all layers and targets of one block layer together: its descriptors are counted.
pub const MOST_SOCKETS: u16 = 64;

/// An export of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemotePlan {
    /// Which layer it is.
    pub layer: LayerNumber,
    /// Its name on the server.
    pub export: String,
    /// Nothing without TLS.
    pub tls: Option<TlsClientPlan>,
    /// Milliseconds that requests wait for a server that is gone before they fail.
    pub reconnect_delay_ms: u32,
    /// Connections, if the server serves several at once; at most [`MOST_CONNECTIONS`].
    pub connections: u16,
    /// What a predecessor has found it to be: the disk opens whether its server is there or not.
    pub known: Option<KnownExport>,
}

/// What a server says that its export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KnownExport {
    /// Bytes.
    pub size: u64,
    /// Transmission flags.
    pub flags: u16,
    /// Smallest unit of a request in bytes.
    pub minimum: u32,
    /// Longest payload.
    pub maximum: u32,
}
