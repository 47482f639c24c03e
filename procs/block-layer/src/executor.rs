//! The executor: the thread that owns the graph, and everything that is decided about it.
//!
//! Called by `main` (and by tests) with what the supervisor says; its events are collected there. It
//! opens the graph, gives lanes their rings and leases, performs what lanes may not, and takes rings
//! away again: the second half of the fence ([`export`]).
//!
//! It answers heartbeats only when every lane has answered: a process of which one lane hangs is a
//! process that hangs. Workers do not count. A disk that stalls is no fault of this process, and
//! its successor would stall as well.

mod bitmaps;
mod cancelled;
mod complaints;
mod dirty;
mod export;
mod go_back;
mod jobs;
mod layers;
mod leases;
mod open;
mod order;
mod record;
mod resize;
mod snapshot;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bulkhead_protocol::block::{BlockCommand, BlockEvent};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::readiness::{Watch, wait_any};

pub use export::Export;

use crate::graph::{CallId, Graph};
use crate::lane::{Direct, Forwarded, LaneHandle, Report, ToLane};
use crate::mailbox::Mailbox;
use crate::outcome::Outcome;
use crate::pool::Pool;
use crate::remote::Remote;

/// To the executor, from other threads.
#[derive(Debug)]
pub enum Mail {
    /// A worker is done with a call of the graph.
    Worked {
        /// Which.
        call: CallId,
        /// How it ended.
        outcome: Outcome,
    },
    /// A lane has no lease for this.
    Perform(Forwarded),
    /// A lane reports.
    Lane {
        /// Its number.
        lane: usize,
        /// What.
        report: Report,
    },
}

/// Why the executor cannot go on. All blame the supervisor's plan: `Bug`.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// A command that does not fit the state.
    #[error("the supervisor sent {0}")]
    Command(&'static str),
    /// A ring of the plan is none.
    #[error("export {export}: {error}")]
    Ring {
        /// Which export.
        export: u32,
        /// What is wrong with it.
        error: bulkhead_ring::AttachError,
    },
    /// A throttle group that is none.
    #[error(transparent)]
    Group(#[from] crate::node::LevelsError),
    /// A shape that no ring has.
    #[error(transparent)]
    Geometry(#[from] bulkhead_ring::GeometryError),
}

/// An answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alive {
    /// The heartbeat's number.
    pub number: u64,
    /// Requests completed so far.
    pub progress: u64,
}

#[derive(Debug)]
struct Beat {
    number: u64,
    /// Lanes that have not answered.
    left: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Executor {
    mailbox: Arc<Mailbox<Mail>>,
    /// Spare memory for `mailbox`.
    mail: Vec<Mail>,
    pool: Arc<Pool>,
    lanes: Vec<LaneHandle>,
    /// What each lane has of a lease.
    lent: Vec<leases::Lent>,
    graph: Option<Graph>,
    /// Bytes of the disk, as lanes check requests.
    size: Arc<AtomicU64>,
    /// The chain's names, and who waits for the supervisor.
    record: Rc<record::Record>,
    jobs: Rc<jobs::Jobs>,
    bitmaps: Rc<bitmaps::Bitmaps>,
    complaints: complaints::Complaints,
    /// The same of those that wait.
    stops: complaints::Complaints,
    /// Those of the disk's reference.
    differences: complaints::Complaints,
    exports: Vec<Export>,
    beat: Option<Beat>,
    alive: Option<Alive>,
    /// A lane completed its first request since this was last asked.
    progressed: bool,
    events: Vec<BlockEvent>,
}

impl Executor {
    /// Starts all threads and waits until each has begun. Before the seal: a thread's first steps
    /// (its signal stack) take calls that a sealed process has not.
    /// The first lanes have `direct`.
    pub fn start(lanes: usize, workers: usize, direct: Vec<Direct>) -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new()?);
        let begun = Arc::new(Barrier::new(1 + workers + lanes));
        let pool = Arc::new(Pool::start(workers, &begun)?);
        let lent = vec![leases::Lent::None; lanes];
        let mut direct = direct.into_iter();
        let lanes = (0..lanes)
            .map(|number| {
                let (pool, mailbox) = (Arc::clone(&pool), Arc::clone(&mailbox));
                LaneHandle::start(number, direct.next(), &begun, pool, mailbox)
            })
            .collect::<io::Result<_>>()?;
        begun.wait();
        Ok(Self {
            mailbox,
            mail: Vec::with_capacity(64),
            pool,
            lanes,
            lent,
            graph: None,
            size: Arc::default(),
            record: Rc::default(),
            jobs: Rc::default(),
            bitmaps: Rc::default(),
            complaints: complaints::Complaints::default(),
            stops: complaints::Complaints::default(),
            differences: complaints::Complaints::default(),
            exports: Vec::new(),
            beat: None,
            alive: None,
            progressed: false,
            events: Vec::new(),
        })
    }

    /// Where the other threads' mail arrives: wait on its bell.
    pub fn mailbox(&self) -> &Mailbox<Mail> {
        &self.mailbox
    }

    /// Does what the supervisor says. Descriptors as the command's type says.
    pub fn command(
        &mut self,
        command: BlockCommand,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ExecutorError> {
        match command {
            BlockCommand::Plan(plan) => self.open(*plan, fds),
            BlockCommand::Detach { export } => self.detach(export),
            BlockCommand::Attach { export, queues, incarnation } => {
                self.attach(export, queues, incarnation, fds)
            }
            BlockCommand::AddExport(plan) => self.add_export(plan, fds),
            BlockCommand::RemoveExport { export } => self.remove_export(export),
            BlockCommand::Socket { layer } => {
                self.socket(layer, fds);
                Ok(())
            }
            BlockCommand::Order { call, order } => self.order(call, order, fds),
            BlockCommand::Switched { change } => self.changed(change, Ok(())),
            BlockCommand::Abandoned { change, reason } => self.changed(change, Err(reason)),
        }
    }

    /// Handles the mail that has come.
    pub fn read_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        self.mailbox.collect(&mut mail);
        for message in mail.drain(..) {
            self.handle(message);
        }
        self.mail = mail;
        if let Some(graph) = &mut self.graph {
            graph.hand_over();
        }
        self.settle_leases();
    }

    fn handle(&mut self, message: Mail) {
        match (message, &mut self.graph) {
            (Mail::Worked { call, outcome }, Some(graph)) => graph.worked(call, outcome),
            (Mail::Perform(forwarded), Some(_)) if forwarded.asks_for_dirty() => {
                self.tell_dirty(forwarded);
            }
            (Mail::Perform(forwarded), Some(graph)) => graph.submit(forwarded),
            (Mail::Lane { lane, report }, _) => self.reported(lane, report),
            // Without a graph no lane has a ring.
            (Mail::Worked { .. } | Mail::Perform(_), None) => {}
        }
    }

    fn reported(&mut self, lane: usize, report: Report) {
        match report {
            Report::Fault(reason) => self.lane_fault(lane, reason),
            Report::Detached => self.lane_left(lane),
            Report::Beat(number) => self.lane_beat(number),
            Report::Progressed => self.progressed = true,
            Report::LeaseReturned => self.lease_returned(lane),
        }
    }

    /// When [`due`](Self::due) has something to do next.
    pub fn next_due(&self) -> Option<Instant> {
        self.graph.as_ref().and_then(Graph::next_due)
    }

    /// Goes on with what waited for this time.
    pub fn due(&mut self) {
        if let Some(graph) = &mut self.graph {
            graph.due(Instant::now());
        }
        self.settle_leases();
    }

    /// Speaks with servers as far as that goes without waiting.
    pub fn pump(&mut self) {
        if let Some(graph) = &mut self.graph
            && graph.has_remotes()
        {
            graph.pump();
            self.settle_leases();
        }
    }

    /// Sleeps until there is mail, a server or `news` has something, or it is time.
    pub fn rest(&self, news: BorrowedFd<'_>) -> io::Result<()> {
        self.rest_at_most(Some(news), None)
    }

    fn rest_at_most(&self, news: Option<BorrowedFd<'_>>, most: Option<Duration>) -> io::Result<()> {
        if !self.mailbox.may_sleep() {
            return Ok(());
        }
        let remotes = self.graph.as_ref().map(|graph| graph.desk().remotes()).unwrap_or_default();
        let is_busy = remotes.iter().any(Remote::is_busy);
        let sockets: Vec<_> = remotes.iter().flat_map(Remote::sockets).collect();
        let bell = self.mailbox.bell().as_fd();
        let mut watched = vec![Watch::new(&bell, false)];
        watched.extend(news.iter().map(|news| Watch::new(news, false)));
        watched.extend(sockets.iter().map(|(socket, room)| Watch::new(socket, *room)));
        let busy = is_busy.then_some(Duration::ZERO);
        let time = busy.into_iter().chain(self.until_due()).chain(most).min();
        let woken = wait_any(&watched, time);
        self.mailbox.woke(woken.as_ref().is_ok_and(|woken| woken.first() == Some(&true)));
        woken.map(drop)
    }

    /// The end: what only memory has goes to the files, once the requests that are under way are over or
    /// `patience` is. What is not written then is what a host's crash would have left.
    pub fn close(&mut self, patience: Deadline) {
        while self.graph.as_ref().is_some_and(|graph| graph.running() > 0) && !patience.has_passed()
        {
            self.read_mail();
            self.pump();
            self.due();
            let _ = self.rest_at_most(None, Some(patience.remaining()));
        }
        if let Some(graph) = self.graph.as_mut().filter(|graph| graph.running() == 0)
            && let Err(failure) = graph.close()
        {
            bulkhead_runtime::log(&format!("block-layer: the last flush failed: {failure}"));
        }
    }

    fn until_due(&self) -> Option<Duration> {
        self.next_due().map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// The supervisor asks whether this process lives; see [`alive`](Self::alive). Lanes without an export
    /// sleep on.
    pub fn heartbeat(&mut self, number: u64) {
        let busy: Vec<&LaneHandle> =
            self.exports.iter().flat_map(|export| &self.lanes[export.lanes()]).collect();
        self.beat = Some(Beat { number, left: busy.len() });
        for lane in busy {
            lane.post(ToLane::Beat(number));
        }
        self.finish_beat();
    }

    fn lane_beat(&mut self, number: u64) {
        if let Some(beat) = &mut self.beat
            && beat.number == number
        {
            beat.left = beat.left.saturating_sub(1);
        }
        self.finish_beat();
    }

    fn finish_beat(&mut self) {
        if let Some(Beat { number, left: 0 }) = self.beat {
            let progress = self.lanes.iter().map(LaneHandle::completed).sum();
            self.alive = Some(Alive { number, progress });
            self.beat = None;
        }
    }

    /// The answer to the last heartbeat, once all lanes have answered it.
    pub fn alive(&mut self) -> Option<Alive> {
        self.alive.take()
    }

    /// Whether a lane has completed its first request since this was last asked.
    pub fn progressed(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// What is to be told to the supervisor, oldest first.
    pub fn events(&mut self) -> std::vec::Drain<'_, BlockEvent> {
        self.gather();
        self.events.drain(..)
    }
}

#[cfg(test)]
mod tests;
