//! A plan and a socket become a disk.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bulkhead_protocol::block::RemotePlan;
use bulkhead_protocol::device::DiskInfo;
use bulkhead_stream::tls::{Client, TlsError};

use super::{Alone, Inner, Remote};
use crate::clock::Clock;
use bulkhead_nbd::option::flag;

/// Largest unit that a guest's disk may have.
const MOST_BLOCK: u32 = 4096;

/// Least unit of a guest's disk.
const SECTOR: u32 = 512;

/// Why there is no disk. The server, or what was asked of it, is to blame.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The user's certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server.
    #[error("the server: {0}")]
    Server(String),
    /// Its blocks.
    #[error("the server wants requests of {0} bytes at least, a disk has at most 4096")]
    Blocks(u32),
}

impl Remote {
    /// Begins a conversation with a server by `socket`; [`known`](Self::known) comes next.
    pub fn begin(
        plan: RemotePlan,
        socket: OwnedFd,
        read_only: bool,
        clock: Rc<dyn Clock>,
        alone: Rc<Alone>,
    ) -> Result<Self, RemoteError> {
        let tls = plan.tls.as_ref().map(Client::new).transpose()?;
        let known = plan.known;
        let remote = Self(Rc::new(Inner {
            plan,
            tls,
            read_only,
            clock,
            alone,
            export: Cell::new(known),
            lines: RefCell::default(),
            made: Cell::new(0),
            asked: Cell::new(1),
            requests: RefCell::default(),
            lost: Cell::new(None),
            given_up: Cell::new(false),
            abandoned: Cell::new(false),
            expires: Cell::new(None),
            quiet: Cell::new(None),
            reason: RefCell::default(),
            waiting: crate::task::Waiting::default(),
            news: RefCell::default(),
            edges: crate::task::RangeLock::default(),
        }));
        remote.take(socket);
        Ok(remote)
    }

    /// Waits until the server has said what its export is, unless the plan knew that already.
    pub async fn known(&self) -> Result<(), RemoteError> {
        let inner = &self.0;
        let decided = || inner.export.get().is_some() || inner.reason.borrow().is_some();
        if inner.alone.is_so() {
            self.wait_alone(decided);
        } else {
            inner.waiting.until(decided).await;
        }
        let Some(export) = inner.export.get() else {
            let why = inner.reason.take().unwrap_or_else(|| "it says nothing".to_owned());
            if inner.alone.is_so() {
                inner.miss(&why);
            }
            return Err(RemoteError::Server(why));
        };
        match export.minimum {
            minimum if minimum > MOST_BLOCK => Err(RemoteError::Blocks(minimum)),
            _ => Ok(()),
        }
    }

    /// What a guest is told of it, as a disk without a format.
    pub fn info(&self, discard: bool) -> DiskInfo {
        let read_only = self.0.read_only;
        let export = self.0.export.get().unwrap_or_default();
        // Requests of less than the server's blocks are served as well, by reading what is around them. A guest is
        // better off if it asks for none: but that it was told, or not, when its disk was first opened. It may have
        // been another disk then, from which a job has moved it here.
        let logical_block = match self.0.plan.known {
            None => export.minimum.clamp(SECTOR, MOST_BLOCK),
            Some(_) => SECTOR,
        };
        DiskInfo {
            size: export.size,
            logical_block,
            physical_block: MOST_BLOCK,
            optimal_io: 0,
            read_only,
            discard: discard && !read_only && export.flags & flag::SEND_TRIM != 0,
            flush: !read_only,
        }
    }
}
