//! A lane: the thread of one block ring.
//!
//! It takes entries, checks them, and performs what its lease covers: at once where that cannot block,
//! by a worker otherwise. Without a lease it sends requests to the executor. Either way the lane
//! alone completes on its ring, so the ring has one producer, and it counts what is out: a lane is
//! drained when the count is zero.
//!
//! ```text
//!            Attach              Detach, or the peer breaks the ring's law
//!   Empty ───────────▶ Serving ──────────────────────────▶ Draining ──(nothing out)──▶ Empty
//!                                                 Fault                 Detached
//! ```
//!
//! Law:
//! - Every attachment ends with exactly one `Detached`, after its last request is over and its ring is
//!   unmapped. From then on nothing of that incarnation touches the image.
//! - Mail is read between two batches, however busy the ring: a flooding peer delays nobody.
//! - No allocation per request.

mod direct;
mod lease;
mod link;
mod mapped;
mod sleep;
mod thread;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use bulkhead_ring::Arena;
use bulkhead_sys::eventfd::Doorbell;

pub use direct::Direct;
pub use lease::Lease;
pub use link::Attachment;
pub use mapped::Mapped;
use thread::Lane;

use crate::executor::Mail;
use crate::mailbox::Mailbox;
use crate::outcome::{Failure, Outcome};
use crate::pool::Pool;
use crate::request::Request;

/// To a lane.
#[derive(Debug)]
pub enum ToLane {
    /// Its queue's doorbells, which stay, and the CPU it is to run on.
    Place {
        /// Rung by the peer, for submissions.
        submit: Doorbell,
        /// Rung here, for completions.
        complete: Doorbell,
        /// Its CPU; `None`: any.
        cpu: Option<u32>,
    },
    /// A ring nobody has used.
    Attach(Box<Attachment>),
    /// The peer is dead or faulty: drain and forget its ring. Nothing to an empty lane.
    Detach,
    /// What it may do without asking from now on; `None` takes it back, and is reported once nothing
    /// is out under the old one.
    Lease(Option<Lease>),
    /// A request is over.
    Done {
        /// Its tag.
        tag: u64,
        /// How.
        outcome: Outcome,
    },
    /// A worker is done with what was performed under a lease.
    Worked {
        /// The request's tag.
        tag: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// What was performed under a lease failed: the executor decides.
    Failed(Request, Failure),
    /// Report [`Report::Beat`].
    Beat(u64),
    /// The process ends (in tests: the executor is dropped).
    End,
}

impl ToLane {
    /// What was performed under a lease is over. A failure is for the executor, unless nobody wants to know.
    pub fn worked(request: Request, outcome: Outcome) -> Self {
        match outcome {
            Err(failure) if failure != Failure::DISCARDED => Self::Failed(request, failure),
            outcome => Self::Worked { tag: request.tag, outcome },
        }
    }
}

/// From a lane.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// The peer broke the ring's law; `Detached` follows.
    Fault(String),
    /// The ring is drained and forgotten.
    Detached,
    /// The lease was given back.
    LeaseReturned,
    /// The lane lives.
    Beat(u64),
    /// Its first request is completed.
    Progressed,
}

/// A request that the lane may not perform itself.
#[derive(Debug)]
pub struct Forwarded {
    /// The request.
    pub request: Request,
    /// Where its data is.
    pub arena: Arena,
    /// Set once the peer is dead.
    pub revoked: Arc<AtomicBool>,
    /// The bitmap of the export.
    pub bitmap: Option<Arc<str>>,
    /// How the lane failed at it.
    pub failed: Option<Failure>,
    /// Who is told how it ended.
    pub lane: Arc<Mailbox<ToLane>>,
}

/// The executor's end of a lane.
#[derive(Debug)]
pub struct LaneHandle {
    mailbox: Arc<Mailbox<ToLane>>,
    completed: Arc<AtomicU64>,
}

/// A lane's stack: a batch is handled in place.
const STACK: usize = 128 * 1024;

impl LaneHandle {
    /// Starts lane `number`, idle, which passes `begun` once it has begun.
    pub fn start(
        number: usize,
        direct: Option<Direct>,
        begun: &Arc<Barrier>,
        pool: Arc<Pool>,
        executor: Arc<Mailbox<Mail>>,
    ) -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new()?);
        let completed = Arc::new(AtomicU64::new(0));
        let (own, count) = (Arc::clone(&mailbox), Arc::clone(&completed));
        let lane = Lane::new(number, own, direct, count, pool, executor);
        let begun = Arc::clone(begun);
        std::thread::Builder::new().name(format!("lane-{number}")).stack_size(STACK).spawn(
            move || {
                begun.wait();
                lane.run();
            },
        )?;
        Ok(Self { mailbox, completed })
    }

    /// Tells the lane.
    pub fn post(&self, message: ToLane) {
        self.mailbox.post(message);
    }

    /// Requests completed so far.
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }
}

impl Drop for LaneHandle {
    fn drop(&mut self) {
        self.mailbox.post(ToLane::End);
    }
}
