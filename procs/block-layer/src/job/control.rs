//! What can be done to a job while it runs, and what it shows: with QEMU's words and numbers.
//!
//! ```text
//! created ─▶ running ◀─▶ ready ─▶ pending ─▶ concluded
//!              ▲  │         ▲  │  (it changes the graph)
//!              │  ▼         │  ▼
//!             paused      standby
//! ```
//!
//! Shared by the job and by whoever commands it, on one thread. A job looks at it between two steps
//! ([`Control::step`]): that is where it pauses, ends when it was cancelled, and keeps its speed.

mod speed;
mod verdict;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::clock::{Clock, wait_until};
use crate::disk::OnError;
use crate::outcome::Failure;

use speed::Speed;
pub use verdict::Side;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// Pulls what is below into a layer.
    Stream,
    /// Pushes layers down into one below.
    Commit,
    /// Copies the disk and keeps the copy up to date.
    Mirror,
    /// Copies the disk as it was at one moment.
    Backup,
}

impl JobKind {
    /// As QEMU calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Commit => "commit",
            Self::Mirror => "mirror",
            Self::Backup => "backup",
        }
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It has not begun.
    Created,
    /// It works.
    Running,
    /// It was told to pause, or waits after an error.
    Paused,
    /// It follows the disk and waits to be completed.
    Ready,
    /// It is ready, and paused.
    Standby,
    /// It changes the graph: it can no longer be cancelled.
    Pending,
    /// It is over; see [`Status::failure`] and [`Status::cancelled`].
    Concluded,
}

impl JobState {
    /// As QEMU calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ready => "ready",
            Self::Standby => "standby",
            Self::Pending => "pending",
            Self::Concluded => "concluded",
        }
    }
}

/// How a job is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes a second; 0: as fast as it goes.
    pub speed: u64,
    /// What a failure of what it reads means.
    pub on_source_error: OnError,
    /// What a failure of what it writes means.
    pub on_target_error: OnError,
}

impl Default for Settings {
    /// QEMU's, but that a full target's host makes the job wait.
    fn default() -> Self {
        Self { speed: 0, on_source_error: OnError::Report, on_target_error: OnError::Enospc }
    }
}

/// What `query-block-jobs` shows of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it does.
    pub kind: JobKind,
    /// Where it is.
    pub state: JobState,
    /// Bytes done. When they reach `len`, what was known to be there to do is done.
    pub offset: u64,
    /// Bytes to do: done ones and those left.
    pub len: u64,
    /// Bytes a second, 0: unlimited.
    pub speed: u64,
    /// It waits after this failure, to go on by itself or when it is resumed.
    pub waits_after: Option<Failure>,
    /// A mirror in write-blocking mode: each write reaches both before it is answered.
    pub actively_synced: bool,
    /// It was cancelled.
    pub cancelled: bool,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// What a job has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// Its state is another.
    State(JobState),
    /// QEMU's `BLOCK_JOB_ERROR`: something failed, and what is done about it.
    Failed {
        /// Where.
        side: Side,
        /// How.
        failure: Failure,
        /// What is done.
        action: crate::disk::Action,
    },
}

/// Why a job is over before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Somebody cancelled it.
    #[error("the job was cancelled")]
    Cancelled,
    /// It failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// See the module.
#[derive(Debug)]
pub struct Control {
    kind: JobKind,
    settings: Cell<Settings>,
    clock: Rc<dyn Clock>,
    speed: Speed,
    /// It is ready, and not yet pending.
    ready: Cell<bool>,
    /// It changes the graph.
    pending: Cell<bool>,
    begun: Cell<bool>,
    over: Cell<bool>,
    paused: Cell<bool>,
    cancelled: Cell<bool>,
    completing: Cell<bool>,
    leaving: Cell<bool>,
    offset: Cell<u64>,
    remaining: Cell<u64>,
    actively_synced: Cell<bool>,
    waits_after: Cell<Option<Failure>>,
    failure: Cell<Option<Failure>>,
    /// What was told last.
    told: Cell<JobState>,
    events: RefCell<Vec<JobEvent>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Control {
    /// Of a job that has not begun.
    pub fn new(kind: JobKind, settings: Settings, clock: Rc<dyn Clock>) -> Rc<Self> {
        Rc::new(Self {
            kind,
            speed: Speed::new(settings.speed),
            settings: Cell::new(settings),
            clock,
            ready: Cell::new(false),
            pending: Cell::new(false),
            begun: Cell::new(false),
            over: Cell::new(false),
            paused: Cell::new(false),
            cancelled: Cell::new(false),
            completing: Cell::new(false),
            leaving: Cell::new(false),
            offset: Cell::new(0),
            remaining: Cell::new(0),
            actively_synced: Cell::new(false),
            waits_after: Cell::new(None),
            failure: Cell::new(None),
            told: Cell::new(JobState::Created),
            events: RefCell::default(),
            waiting: RefCell::default(),
        })
    }

    /// What it shows.
    pub fn status(&self) -> Status {
        Status {
            kind: self.kind,
            state: self.state(),
            offset: self.offset.get(),
            len: self.offset.get() + self.remaining.get(),
            speed: self.speed.get(),
            waits_after: self.waits_after.get(),
            actively_synced: self.actively_synced.get(),
            cancelled: self.cancelled.get(),
            failure: self.failure.get(),
        }
    }

    fn state(&self) -> JobState {
        let waits = self.paused.get() || self.waits_after.get().is_some();
        match (self.over.get(), self.pending.get(), self.ready.get(), waits) {
            (true, ..) => JobState::Concluded,
            (_, true, ..) => JobState::Pending,
            (_, _, true, true) => JobState::Standby,
            (_, _, true, false) => JobState::Ready,
            _ if !self.begun.get() => JobState::Created,
            (_, _, _, true) => JobState::Paused,
            _ => JobState::Running,
        }
    }

    /// What it has to tell, oldest first.
    pub fn events(&self) -> Vec<JobEvent> {
        self.events.take()
    }

    /// Pauses it at its next step. A mirror that is ready goes on to follow the disk's changes, and
    /// catches up later.
    pub fn pause(&self) {
        self.paused.set(true);
        self.changed();
    }

    /// Lets it go on, and tries again what it waits for.
    pub fn resume(&self) {
        self.paused.set(false);
        self.waits_after.set(None);
        self.changed();
    }

    /// Ends it; what it has done so far stays done. One that is ready catches up and leaves a whole copy
    /// behind, as in QEMU, unless `force` wants it to end at once, it waits after a failure, or this is the second time.
    /// Too late for one that changes the graph.
    pub fn cancel(&self, force: bool) {
        if self.pending.get() || self.over.get() {
            return;
        }
        let stuck = self.waits_after.get().is_some() || self.leaving.get();
        if self.ready.get() && !force && !stuck {
            self.leaving.set(true);
            self.completing.set(true);
        } else {
            self.cancelled.set(true);
        }
        self.changed();
    }

    /// Lets a job that is ready end with the change it was begun for. `false`: it is not ready.
    pub fn complete(&self) -> bool {
        let ready = self.ready.get() && !self.over.get() && !self.cancelled.get();
        if ready {
            self.completing.set(true);
            self.changed();
        }
        ready
    }

    /// Another speed in bytes a second; 0: as fast as it goes.
    pub fn set_speed(&self, speed: u64) {
        self.speed.set(speed);
        self.changed();
    }

    fn changed(&self) {
        self.tell_state();
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    fn tell_state(&self) {
        let state = self.state();
        if self.told.replace(state) != state {
            self.events.borrow_mut().push(JobEvent::State(state));
        }
    }
}

/// For jobs.
impl Control {
    /// A place between two steps: waits while the job is paused, then until its speed lets `bytes`
    /// pass, and gives others a turn.
    pub async fn step(&self, bytes: u64) -> Result<(), Ended> {
        crate::task::yield_now().await;
        loop {
            self.until(|| !self.paused.get()).await;
            let time = self.speed.wait(self.clock.now());
            if self.cancelled.get() {
                return Err(Ended::Cancelled);
            }
            match time {
                Some(until) => self.wait(until).await,
                None if self.paused.get() => {}
                None => {
                    self.speed.pass(bytes, self.clock.now());
                    return Ok(());
                }
            }
        }
    }

    /// Waits until `until`, a command, or a [`nudge`](Self::nudge).
    pub async fn wait(&self, until: Duration) {
        let mut seen = false;
        let command = std::future::poll_fn(|context| {
            if std::mem::replace(&mut seen, true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        });
        crate::task::first(command, wait_until(&self.clock, until)).await;
    }

    /// Wakes a job that waits: there is something to do.
    pub fn nudge(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits until something holds; commands and nudges make it look again. A cancelled job waits no
    /// more.
    pub async fn until(&self, holds: impl Fn() -> bool) {
        std::future::poll_fn(|context| match holds() || self.cancelled.get() {
            true => Poll::Ready(()),
            false => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }

    /// Whether somebody wants it to end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Whether it is to end without its change of the graph.
    pub fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Whether somebody wants it to complete.
    pub fn is_completing(&self) -> bool {
        self.completing.get()
    }

    /// It begins.
    pub(super) fn begin(&self) {
        self.begun.set(true);
        self.tell_state();
    }

    /// It has caught up for the first time.
    pub(super) fn set_ready(&self) {
        self.ready.set(true);
        self.tell_state();
    }

    /// It begins to change the graph. An error if it was cancelled first: from now on that is too late.
    pub(super) fn set_pending(&self) -> Result<(), Ended> {
        if self.cancelled.get() {
            return Err(Ended::Cancelled);
        }
        self.pending.set(true);
        self.tell_state();
        Ok(())
    }

    /// Something failed before it had changed the graph: it goes on as before.
    pub(super) fn unset_pending(&self) {
        self.pending.set(false);
        self.tell_state();
    }

    /// It is over.
    pub(super) fn conclude(&self, ended: Result<(), Ended>) {
        match ended {
            Ok(()) | Err(Ended::Cancelled) => {}
            Err(Ended::Failed(failure)) => self.failure.set(Some(failure)),
        }
        self.cancelled.set(ended == Err(Ended::Cancelled) || (ended.is_ok() && self.leaving.get()));
        self.waits_after.set(None);
        self.over.set(true);
        self.changed();
    }

    /// That many bytes more are done.
    pub(super) fn progress(&self, bytes: u64) {
        self.offset.set(self.offset.get() + bytes);
        self.remaining.set(self.remaining.get().saturating_sub(bytes));
    }

    /// That many bytes are left.
    pub(super) fn set_remaining(&self, bytes: u64) {
        self.remaining.set(bytes);
    }

    pub(super) fn set_actively_synced(&self, synced: bool) {
        self.actively_synced.set(synced);
    }
}
