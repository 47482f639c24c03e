//! A ring in use, and what is out of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bulkhead_protocol::block_ring::{BlockCompletion, BlockRequest};
use bulkhead_ring::{PeerFault, PushError, Server};

use crate::outcome::{self, Failure, Outcome};
use crate::request::{Limits, Request};

/// A ring for a lane.
#[derive(Debug)]
pub struct Attachment {
    /// This end of the ring.
    pub server: Server<BlockRequest, BlockCompletion>,
    /// Most requests the peer may have outstanding.
    pub entries: u32,
    /// What requests are checked against.
    pub limits: Limits,
    /// Bytes of the disk, which may grow.
    pub size: Arc<AtomicU64>,
    /// The bitmap by which status requests are told what is dirty.
    pub bitmap: Option<Arc<str>>,
    /// Set when the attachment ends, by whoever notices first.
    pub revoked: Arc<AtomicBool>,
}

/// What a peer can do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// Its index is impossible.
    #[error(transparent)]
    Index(#[from] PeerFault),
    /// It does not take its completions, or submits more than it may.
    #[error("more than {0} requests outstanding")]
    Outstanding(u32),
}

/// An attached ring.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: Server<BlockRequest, BlockCompletion>,
    limits: Limits,
    size: Arc<AtomicU64>,
    pub(super) bitmap: Option<Arc<str>>,
    pub(super) revoked: Arc<AtomicBool>,
    entries: u32,
    /// Requests at workers and at the executor.
    out: u32,
}

impl Link {
    pub(super) fn new(attachment: Attachment) -> Self {
        let Attachment { server, entries, limits, size, bitmap, revoked } = attachment;
        Self { server, limits, size, bitmap, revoked, entries, out: 0 }
    }

    /// The next entry, unless the peer has more outstanding than it may.
    #[inline]
    pub(super) fn take(&mut self) -> Result<Option<BlockRequest>, LinkFault> {
        let entry = self.server.submit.pop()?;
        match entry {
            Some(_) if self.out >= self.entries => Err(LinkFault::Outstanding(self.entries)),
            entry => Ok(entry),
        }
    }

    /// Checks an entry. What is refused may lie in a part of the disk that was not there before.
    #[inline]
    pub(super) fn check(&mut self, entry: &BlockRequest) -> Result<Request, Failure> {
        let checked = self.limits.check(entry);
        let size = self.size.load(Ordering::Relaxed);
        if checked.is_ok() || size == self.limits.size {
            return checked;
        }
        self.limits.size = size;
        self.limits.check(entry)
    }

    /// Fills a completion, which the peer sees after the next publish.
    #[inline]
    pub(super) fn complete(&mut self, tag: u64, outcome: Outcome) -> Result<(), LinkFault> {
        let completion =
            BlockCompletion { tag, status: outcome::status(outcome), reserved: [0; 5] };
        self.server.complete.push(completion).map_err(|error| match error {
            PushError::Full => LinkFault::Outstanding(self.entries),
            PushError::Peer(fault) => LinkFault::Index(fault),
        })
    }

    /// A request leaves for a worker or the executor.
    pub(super) fn sent(&mut self) {
        self.out += 1;
    }

    /// A request that had left is over.
    pub(super) fn returned(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    /// Whether nothing is out.
    pub(super) fn is_quiet(&self) -> bool {
        self.out == 0
    }
}
