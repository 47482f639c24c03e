//! What nodes may do besides thinking: make calls on images, and wait.
//!
//! A call that cannot block is made at once, on the executor's thread; any other goes to a worker, and the
//! task that made it goes on when the answer comes by mail.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::CallId;
use super::calls::Calls;
use super::timers::Timers;
use crate::clock::Clock;
use crate::executor::Mail;
use crate::image::{Attempt, Call, Image};
use crate::mailbox::Mailbox;
use crate::outcome::Outcome;
use crate::pool::{Answer, Job, Pool};

/// Shared by the nodes of one graph; of one thread.
#[derive(Debug)]
pub struct Desk {
    pool: Arc<Pool>,
    executor: Arc<Mailbox<Mail>>,
    /// For the workers, handed over together.
    jobs: RefCell<Vec<Job>>,
    calls: RefCell<Calls>,
    timers: RefCell<Timers>,
    /// When its clock began.
    began: Instant,
    /// Nobody else is there to wait: make every call at once.
    alone: Cell<bool>,
    /// For calls that are made for no requester's sake.
    kept: Arc<AtomicBool>,
}

impl Desk {
    pub(super) fn new(pool: Arc<Pool>, executor: Arc<Mailbox<Mail>>) -> Self {
        Self {
            pool,
            executor,
            jobs: RefCell::default(),
            calls: RefCell::default(),
            timers: RefCell::default(),
            began: Instant::now(),
            alone: Cell::new(false),
            kept: Arc::default(),
        }
    }

    /// While the graph is opened and closed: calls are made where they are, however long they take.
    pub(super) fn set_alone(&self, alone: bool) {
        self.alone.set(alone);
    }

    /// Makes a call for a requester; one that has not begun when the requester dies does not begin.
    pub async fn call(&self, image: &Arc<Image>, call: Call, revoked: &Arc<AtomicBool>) -> Outcome {
        let done = match image.attempt_call(&call) {
            Attempt::Done(outcome) => return outcome,
            Attempt::WouldBlock { done } => done,
        };
        if self.alone.get() {
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

    pub(super) fn answered(&self, call: CallId, outcome: Outcome) {
        self.calls.borrow_mut().answer(call, outcome);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.borrow().next()
    }

    pub(super) fn wake_due(&self, now: Instant) {
        self.timers.borrow_mut().wake(now);
    }

    pub(super) fn wake_waiting(&self) {
        self.timers.borrow_mut().wake_all();
    }

    pub(super) fn hand_over(&self) {
        self.pool.hand(&mut self.jobs.borrow_mut());
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
