//! Supervisor ↔ nbd-server.
//!
//! The listening socket is the supervisor's and the same for every incarnation; what is accepted from it
//! is the process's own, so that a client sees a hang-up when that dies.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use crate::device::{DiskInfo, RingShape};

/// What the ring of an NBD export has: room for the data of many clients, as they read and write it. Only
/// what is in flight is touched.
pub const NBD_RING: RingShape = RingShape { entries: 512, arena: 32 << 20 };

/// Most bytes of each file of a [`TlsPlan`].
pub const MOST_PEM: usize = 16 << 10;

/// Longest name of an export in bytes. The protocol has 4096.
pub const LONGEST_EXPORT: usize = 256;

/// Plan of an NBD server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NbdPlan {
    /// The disk, as this export shows it.
    pub disk: DiskInfo,
    /// Name by which clients ask for it.
    pub name: String,
    /// A line for people; may be empty.
    pub description: String,
    /// Name of the bitmap that clients may ask for.
    pub bitmap: Option<String>,
    /// Shape of its ring.
    pub ring: RingShape,
    /// Incarnation the ring carries.
    pub incarnation: u64,
    /// Clients must use TLS.
    pub tls: Option<TlsPlan>,
}

/// TLS with X.509 certificates, in PEM as the files have them: the server parses them in its jail.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsPlan {
    /// The server's certificate, and those between it and its authority.
    pub chain: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// Clients must have a certificate of one of these authorities.
    pub clients: Option<Vec<u8>>,
}

impl std::fmt::Debug for TlsPlan {
    /// Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsPlan").field("clients", &self.clients.is_some()).finish_non_exhaustive()
    }
}

/// TLS of a client of another program's server, in PEM as the files have them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsClientPlan {
    /// The server must have a certificate of one of these authorities.
    pub authorities: Vec<u8>,
    /// As whom the client speaks, if the server asks.
    pub own: Option<OwnCertificate>,
    /// Name that the server's certificate must have.
    pub server: String,
}

/// A client's certificate and its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCertificate {
    /// The certificate, and those between it and its authority.
    pub chain: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for TlsClientPlan {
    /// Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClientPlan").field("server", &self.server).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for OwnCertificate {
    /// Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnCertificate").finish_non_exhaustive()
    }
}

/// To nbd-server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NbdCommand {
    /// First message. Descriptors: the listening socket, the ring memfd, the submission doorbell (rung
    /// here), the completion doorbell (rung by block-layer).
    Plan(Box<NbdPlan>),
    /// The export is to be removed if nobody uses it: answer [`NbdEvent::Closed`] and take no client any
    /// more, or [`NbdEvent::InUse`].
    Close,
    /// The disk has grown: tell clients that come from now on.
    Resized {
        /// Bytes.
        size: u64,
    },
    /// The block layer was restarted: take this ring and submit again what is outstanding, in submission
    /// order. Descriptor: the ring memfd; doorbells stay.
    RingReplaced {
        /// Incarnation the new ring carries.
        incarnation: u64,
        /// The block layer died by a fault of its own: outstanding requests count one attempt more.
        own_fault: bool,
    },
}

/// From nbd-server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NbdEvent {
    /// The plan cannot be served: its certificates are none.
    Refused {
        /// Why, in one sentence.
        reason: String,
    },
    /// It has no client, and takes none any more.
    Closed,
    /// It has clients.
    InUse {
        /// How many.
        clients: u32,
    },
    /// A request that was in flight in three deaths of the block layer was answered with an error.
    PoisonRequest,
}

impl Message for NbdCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan(_) => 4,
            Self::Close | Self::Resized { .. } => 0,
            Self::RingReplaced { .. } => 1,
        }
    }
}

impl Message for NbdEvent {}
