//! What nodes may do besides thinking: make calls on images, and wait.
//!
//! A call that cannot block is made at once, on the executor's thread; any other goes to a worker, and the
//! task that made it goes on when the answer comes by mail.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Waker;
use std::time::{Duration, Instant};

use bulkhead_protocol::block::RemotePlan;

use super::CallId;
use super::calls::Calls;
use super::timers::Timers;
use crate::clock::Clock;
use crate::executor::Mail;
use crate::image::{Attempt, Call, Image};
use crate::lane::ToLane;
use crate::mailbox::Mailbox;
use crate::outcome::Outcome;
use crate::pool::{Answer, Job, Pool};
use crate::remote::{Alone, Enlisted, Missed, Remote, RemoteError};

/// Shared by the nodes of one graph; of one thread.
#[derive(Debug)]
pub struct Desk {
    pool: Arc<Pool>,
    executor: Arc<Mailbox<Mail>>,
    /// For the workers, handed over together.
    jobs: RefCell<Vec<Job>>,
    /// Lanes that have mail and were not woken for it yet.
    told: RefCell<Vec<Arc<Mailbox<ToLane>>>>,
    calls: RefCell<Calls>,
    timers: RefCell<Timers>,
    /// When its clock began.
    began: Instant,
    /// Whether nobody else is there to wait: make every call at once.
    alone: Rc<Alone>,
    /// For calls that are made for no requester's sake.
    kept: Arc<AtomicBool>,
    /// Storage on servers, whose sockets are to be watched.
    remotes: RefCell<Vec<Enlisted>>,
}

impl Desk {
    pub(super) fn new(pool: Arc<Pool>, executor: Arc<Mailbox<Mail>>) -> Self {
        Self {
            pool,
            executor,
            jobs: RefCell::default(),
            told: RefCell::default(),
            calls: RefCell::default(),
            timers: RefCell::default(),
            began: Instant::now(),
            alone: Rc::default(),
            kept: Arc::default(),
            remotes: RefCell::default(),
        }
    }

    /// While the graph is opened and closed: calls are made where they are, however long they take.
    pub(super) fn set_alone(&self, alone: bool) {
        self.alone.set(alone);
    }

    /// The first server that was waited for in vain meanwhile.
    pub fn missed(&self) -> Option<Missed> {
        self.alone.missed()
    }

    /// Makes a call for a requester; one that has not begun when the requester dies does not begin.
    pub async fn call(&self, image: &Arc<Image>, call: Call, revoked: &Arc<AtomicBool>) -> Outcome {
        let done = match image.attempt_call(&call) {
            Attempt::Done(outcome) => return outcome,
            Attempt::WouldBlock { done } => done,
        };
        if self.alone.is_so() {
            return image.perform_call(&call, done, revoked);
        }
        let id = self.calls.borrow_mut().insert();
        let answer = Answer::Executor { executor: Arc::clone(&self.executor), call: id };
        let (image, revoked) = (Arc::clone(image), Arc::clone(revoked));
        self.jobs.borrow_mut().push(Job { image, call, done, revoked, answer });
        std::future::poll_fn(|context| self.calls.borrow_mut().poll(id, context.waker())).await
    }

    /// Makes a call that is finished whoever dies: half of a change of metadata is no change.
    pub async fn call_to_the_end(&self, image: &Arc<Image>, call: Call) -> Outcome {
        self.call(image, call, &self.kept).await
    }

    /// Opens an export on a server; see [`crate::remote`].
    pub async fn remote(
        self: &Rc<Self>,
        plan: RemotePlan,
        socket: OwnedFd,
        read_only: bool,
    ) -> Result<Remote, RemoteError> {
        let clock = Rc::clone(self) as Rc<dyn Clock>;
        let remote = Remote::begin(plan, socket, read_only, clock, Rc::clone(&self.alone))?;
        self.remotes.borrow_mut().push(remote.enlist());
        remote.known().await?;
        Ok(remote)
    }

    /// Whether there are any of [`remotes`](Self::remotes).
    pub fn has_remotes(&self) -> bool {
        !self.remotes.borrow().is_empty()
    }

    /// The exports on servers that somebody uses.
    pub fn remotes(&self) -> Vec<Remote> {
        let mut remotes = Vec::new();
        self.remotes.borrow_mut().retain(|enlisted| {
            let remote = enlisted.remote();
            let there = remote.is_some();
            remotes.extend(remote);
            there
        });
        remotes
    }

    pub(super) fn answered(&self, call: CallId, outcome: Outcome) {
        self.calls.borrow_mut().answer(call, outcome);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let remotes = self.remotes().into_iter().filter_map(|remote| remote.next_due());
        let remotes = remotes.min().map(|due| self.began + due);
        self.timers.borrow().next().into_iter().chain(remotes).min()
    }

    pub(super) fn wake_due(&self, now: Instant) {
        self.timers.borrow_mut().wake(now);
        for remote in self.remotes() {
            remote.due(now.saturating_duration_since(self.began));
        }
    }

    pub(super) fn pump(&self) {
        for remote in self.remotes() {
            remote.pump();
        }
    }

    pub(super) fn wake_waiting(&self) {
        self.timers.borrow_mut().wake_all();
    }

    /// Tells a lane how a request ended, at the latest with the next [`hand_over`](Self::hand_over).
    pub(super) fn tell(&self, lane: Arc<Mailbox<ToLane>>, tag: u64, outcome: Outcome) {
        lane.put(ToLane::Done { tag, outcome });
        let told = &mut *self.told.borrow_mut();
        if told.last().is_none_or(|last| !Arc::ptr_eq(last, &lane)) {
            told.push(lane);
        }
    }

    /// The end of a turn: workers get what there is for them, and lanes are woken.
    pub(super) fn hand_over(&self) {
        self.pool.hand(&mut self.jobs.borrow_mut());
        for lane in self.told.borrow_mut().drain(..) {
            lane.ring();
        }
    }
}

impl Clock for Desk {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn wake_at(&self, until: Duration, waker: Waker) {
        self.timers.borrow_mut().set(self.began + until, waker);
    }
}
