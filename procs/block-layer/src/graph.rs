//! The graph: nodes, and the requests that are between two steps.
//!
//! Owned by the executor and used on its thread only. Each request that reaches it is a task
//! ([`crate::task`]): it goes through the nodes as far as it can at once, and goes on when a worker has
//! answered or a time has come. It knows no kind of node.
//!
//! A change of the graph is made between two turns, when the tasks that it would disturb are over.

mod calls;
mod desk;
mod timers;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bulkhead_protocol::device::DiskInfo;

pub use calls::CallId;
pub use desk::Desk;

use crate::executor::Mail;
use crate::lane::{Forwarded, Lease, ToLane};
use crate::mailbox::Mailbox;
use crate::node::{Delay, Node, Operands};
use crate::outcome::{Failure, Outcome};
use crate::pool::Pool;
use crate::task::{Tasks, finish};

/// How long changed metadata stays out of its file without a flush: as long as the kernel keeps data.
const UNWRITTEN: Duration = Duration::from_secs(5);

/// The graph of one disk.
#[derive(Debug)]
pub struct Graph {
    root: Rc<Node>,
    tasks: Tasks,
    desk: Rc<Desk>,
    /// When changed metadata is written though nobody asked for it.
    write_back: Option<Instant>,
}

impl Graph {
    /// Opens the nodes that `open` makes, with a delay in front of them unless that is zero. It may block:
    /// nothing is served yet.
    pub fn open<E>(
        pool: Arc<Pool>,
        executor: Arc<Mailbox<Mail>>,
        delay: Duration,
        open: impl AsyncFnOnce(&Rc<Desk>) -> Result<Node, E>,
    ) -> Result<Self, E> {
        let desk = Rc::new(Desk::new(pool, executor));
        desk.set_alone(true);
        let mut root = Rc::new(finish(open(&desk))?);
        desk.set_alone(false);
        if !delay.is_zero() {
            root = Rc::new(Node::Delay(Delay::new(root, delay, Rc::clone(&desk))));
        }
        Ok(Self { root, tasks: Tasks::default(), desk, write_back: None })
    }

    /// What the disk is.
    pub fn info(&self) -> DiskInfo {
        self.root.info()
    }

    /// What lanes may do without asking.
    pub fn lease(&self) -> Option<Lease> {
        self.root.lease()
    }

    /// A request that a lane may not perform itself; the lane is told how it ended.
    pub fn submit(&mut self, forwarded: Forwarded) {
        let Forwarded { request, arena, revoked, lane } = forwarded;
        let tag = request.tag;
        // It was on its way while its incarnation ended, and has missed `discard_revoked`.
        if revoked.load(Ordering::Acquire) {
            drop(arena);
            return lane.post(ToLane::Done { tag, outcome: Err(Failure::DISCARDED) });
        }
        let operands = Operands { action: request.action, arena, revoked };
        let root = Rc::clone(&self.root);
        self.tasks.spawn(async move {
            let outcome = root.perform(&operands).await;
            // The answer is the last that is seen of a request: its arena may be unmapped now.
            drop(operands);
            lane.post(ToLane::Done { tag, outcome });
        });
        self.desk.hand_over();
        self.watch();
    }

    /// A worker is done.
    pub fn worked(&mut self, call: CallId, outcome: Outcome) {
        self.desk.answered(call, outcome);
        self.settle();
    }

    /// When [`due`](Self::due) has something to do next.
    pub fn next_due(&self) -> Option<Instant> {
        self.desk.next_due().into_iter().chain(self.write_back).min()
    }

    /// Goes on with what waited for this time.
    pub fn due(&mut self, now: Instant) {
        self.desk.wake_due(now);
        if self.write_back.is_some_and(|due| due <= now) {
            self.write_back = None;
            let root = Rc::clone(&self.root);
            // A failure comes again with the next flush, and then somebody is told.
            self.tasks.spawn(async move {
                let _told_later = root.write_back().await;
            });
        }
        self.settle();
    }

    /// Ends every wait of a dead requester. What is with a worker ends by itself.
    pub fn discard_revoked(&mut self) {
        self.desk.wake_waiting();
        self.settle();
    }

    /// Requests that are not over.
    pub fn running(&self) -> usize {
        self.tasks.running()
    }

    /// Writes what only memory has, when nothing is under way any more. It may block.
    pub fn close(&mut self) -> Outcome {
        self.desk.set_alone(true);
        finish(self.root.write_back())
    }

    fn settle(&mut self) {
        self.tasks.run();
        self.desk.hand_over();
        self.watch();
    }

    fn watch(&mut self) {
        if self.write_back.is_none() && self.root.has_changed() {
            self.write_back = Some(Instant::now() + UNWRITTEN);
        }
    }
}
