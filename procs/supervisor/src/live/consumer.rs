//! One consumer of a disk's graph: the process that submits on its rings, the rings, and the fence between
//! that process and the next.
//!
//! A disk has any number of them: its vhost-blk, and one nbd-server for each NBD export. To the block-layer
//! each is an export with a number, which no other consumer of the disk ever has.
//!
//! ```text
//! Joining ──serves──▶ Member ──remove──▶ Asked ──no clients──▶ Leaving ──reaped, detached──▶ gone
//!    │                   ▲                 │ in use               ▲
//!    │                   └─────────────────┘                      │
//!    └────────────────────── cannot serve ────────────────────────┘
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_protocol::block::ExportPlan;
use bulkhead_protocol::block_control::BlockResponse;
use bulkhead_protocol::device::RingShape;
use bulkhead_ring::RingGeometry;
use bulkhead_sys::eventfd::Doorbell;

use super::token::PostIndex;
use crate::fence::{Fence, Incarnation};

/// What kind of process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The disk's vhost-blk.
    Blk,
    /// The nbd-server of the NBD export that has the consumer's number in the disk's plan.
    Nbd,
}

/// Whether it stays. A call is that of the client who wants it, and waits for the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stay {
    /// For good.
    Member,
    /// It was added and does not serve yet.
    Joining {
        /// Who waits.
        call: u64,
    },
    /// Its process is asked whether it has clients.
    Asked {
        /// Who waits.
        call: u64,
    },
    /// Its process is being ended.
    Leaving {
        /// Who waits.
        call: u64,
        /// What is then answered.
        answer: BlockResponse,
        /// What the export was called.
        export: String,
        /// Its process is dead and reaped.
        reaped: bool,
    },
}

/// Doorbells of one queue; they outlive every incarnation of its rings.
#[derive(Debug)]
struct Bells {
    submission: Doorbell,
    completion: Doorbell,
}

/// See the module.
#[derive(Debug)]
pub struct Consumer {
    /// What it is.
    pub kind: Kind,
    /// Its number.
    pub number: usize,
    /// Whether it stays.
    pub stay: Stay,
    /// The present block-layer knows of it.
    pub introduced: bool,
    /// Its post.
    pub post: PostIndex,
    /// What was sent when, and what comes next.
    pub fence: Fence,
    shape: RingShape,
    bells: Vec<Bells>,
    rings: Vec<OwnedFd>,
    incarnation: Incarnation,
}

impl Consumer {
    /// A consumer with `queues` rings, whose process is not started yet.
    pub fn new(
        kind: Kind,
        number: usize,
        post: PostIndex,
        queues: u16,
        shape: RingShape,
    ) -> std::io::Result<Self> {
        let bells = || Ok(Bells { submission: Doorbell::new()?, completion: Doorbell::new()? });
        Ok(Self {
            kind,
            number,
            stay: Stay::Member,
            introduced: false,
            post,
            fence: Fence::new(),
            shape,
            bells: (0..queues).map(|_| bells()).collect::<std::io::Result<_>>()?,
            rings: Vec::new(),
            incarnation: 0,
        })
    }

    /// How many rings it has.
    pub fn queues(&self) -> usize {
        self.bells.len()
    }

    /// Fresh rings of one incarnation. The old ones live on in whoever still maps them.
    pub fn make_rings(&mut self, incarnation: Incarnation) -> std::io::Result<()> {
        let geometry = RingGeometry::new(self.shape.entries, self.shape.arena);
        let geometry = geometry.map_err(std::io::Error::other)?;
        let make = |_| bulkhead_ring::create(geometry, incarnation);
        self.rings = (0..self.bells.len()).map(make).collect::<Result<_, _>>()?;
        self.incarnation = incarnation;
        Ok(())
    }

    /// Ring, submission bell and completion bell of each queue in turn.
    pub fn ring_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let queues = self.rings.iter().zip(&self.bells);
        queues.flat_map(|(ring, bells)| {
            [ring.as_fd(), bells.submission.as_fd(), bells.completion.as_fd()]
        })
    }

    /// The rings alone, as duplicates.
    pub fn rings(&self) -> std::io::Result<Vec<OwnedFd>> {
        self.rings.iter().map(OwnedFd::try_clone).collect()
    }

    /// What the block-layer is told of it.
    pub fn plan(&self, read_only: bool, bitmap: Option<String>, cpus: Vec<u32>) -> ExportPlan {
        ExportPlan {
            export: self.number as u32,
            queues: self.bells.len() as u16,
            ring: self.shape,
            incarnation: self.incarnation,
            read_only,
            bitmap,
            cpus,
        }
    }
}
