//! The graph: a disk, and the requests and jobs that are between two steps.
//!
//! Owned by the executor and used on its thread only. Each request that reaches it is a task
//! ([`crate::task`]): it goes through the [`Disk`] as far as it can at once, and goes on when a worker has
//! answered or a time has come. Jobs are tasks as well ([`Graph::spawn`]).
//!
//! A change of the graph is made between two turns, when the tasks that it would disturb are over.

mod calls;
mod desk;
mod mapped;
mod timers;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bulkhead_protocol::device::DiskInfo;

pub use calls::CallId;
pub use desk::Desk;
use mapped::Known;

use crate::clock::Clock;
use crate::disk::{Disk, Operation};
use crate::executor::Mail;
use crate::lane::{Forwarded, Lease, Mapped};
use crate::mailbox::Mailbox;
use crate::node::{Node, Opened, Served};
use crate::outcome::{Failure, Outcome};
use crate::pool::Pool;
use crate::qcow2::Layer;
use crate::request::Action;
use crate::task::{Tasks, finish};

/// How long changed metadata stays out of its file without a flush: as long as the kernel keeps data.
const UNWRITTEN: Duration = Duration::from_secs(5);

/// Steps of tasks in one turn: a job that never waits leaves turns to what comes by mail.
const TURN: usize = 256;

/// The graph of one disk.
#[derive(Debug)]
pub struct Graph {
    disk: Rc<Disk<Served>>,
    info: DiskInfo,
    /// Where clusters are, for lanes, and at which of the disk's changes that began.
    mapped: Rc<Known>,
    tasks: Tasks,
    /// Requests that no lane could perform by itself.
    forwarded: u64,
    desk: Rc<Desk>,
    /// When changed metadata is written though nobody asked for it.
    write_back: Option<Instant>,
}

impl Graph {
    /// Opens the chain that `open` opens, with these nodes in front of it. It may block: nothing is served
    /// yet.
    pub fn open<E>(
        pool: Arc<Pool>,
        executor: Arc<Mailbox<Mail>>,
        nodes: Vec<Rc<Node>>,
        open: impl AsyncFnOnce(&Rc<Desk>) -> Result<Opened, E>,
    ) -> Result<Self, E> {
        let desk = Rc::new(Desk::new(pool, executor));
        desk.set_alone(true);
        let Opened { top, info } = finish(open(&desk))?;
        desk.set_alone(false);
        let clock: Rc<dyn Clock> = Rc::clone(&desk) as Rc<dyn Clock>;
        let disk = Rc::new(Disk::new(top, clock));
        disk.set_nodes(nodes);
        Ok(Self {
            disk,
            info,
            mapped: Rc::default(),
            tasks: Tasks::default(),
            forwarded: 0,
            desk,
            write_back: None,
        })
    }

    /// What the disk is.
    pub fn info(&self) -> DiskInfo {
        DiskInfo { size: self.disk.size(), ..self.info }
    }

    /// The disk.
    pub fn disk(&self) -> &Rc<Disk<Served>> {
        &self.disk
    }

    /// What opens further files for it: overlays, targets.
    pub fn desk(&self) -> &Rc<Desk> {
        &self.desk
    }

    /// Begins a task on the disk: a job, or a change of the graph.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn(task);
        self.settle();
    }

    /// What lanes may do without asking, as things are now.
    pub fn lease(&self) -> Option<Lease> {
        let changes = self.disk.bypass().changes();
        let known = &mut *self.mapped.borrow_mut();
        // What was known before a change is worth nothing, and would keep a file open that leaves the disk.
        known.take_if(|(since, _)| *since != changes);
        if !self.disk.may_lend() {
            return None;
        }
        match self.disk.top() {
            Layer::Raw(raw) => {
                raw.storage().image().map(|image| Lease::Whole(Arc::clone(image), raw.start()))
            }
            // What a lane writes in place no bitmap of the image would know of.
            Layer::Qcow2(image) if image.is_recording() || image.is_encrypted() => None,
            Layer::Qcow2(image) => {
                let file = image.guest_data().image()?;
                let (_, mapped) = known.get_or_insert_with(|| {
                    (changes, Arc::new(Mapped::new(Arc::clone(file), image.cluster_size())))
                });
                Some(Lease::Mapped(Arc::clone(mapped)))
            }
            Layer::Luks(_) | Layer::Null(_) => None,
        }
    }

    /// Requests so far that no lane could perform by itself.
    pub fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// A lane has given its lease back.
    pub fn lease_returned(&mut self) {
        self.disk.bypass().returned();
        self.settle();
    }

    /// A request that a lane may not perform itself; the lane is told how it ended. Requests come many at a
    /// time: [`hand_over`](Self::hand_over) follows the last.
    pub fn submit(&mut self, forwarded: Forwarded) {
        let Forwarded { request, arena, revoked, failed, lane, .. } = forwarded;
        let tag = request.tag;
        self.forwarded += 1;
        // It was on its way while its incarnation ended, and has missed `discard_revoked`.
        if revoked.load(Ordering::Acquire) {
            drop(arena);
            return self.desk.tell(lane, tag, Err(Failure::DISCARDED));
        }
        if let Action::Zero { at, len, fast: true, .. } = request.action
            && !self.disk.top().zeroes_fast(at, len)
        {
            return self.desk.tell(lane, tag, Err(Failure::UNSUPPORTED));
        }
        let operation = Operation::of(request.action, &arena);
        drop(arena);
        let (disk, mapped) = (Rc::clone(&self.disk), Rc::clone(&self.mapped));
        let desk = Rc::clone(&self.desk);
        self.tasks.spawn(async move {
            let outcome = mapped::perform(&disk, &mapped, &operation, &revoked, failed).await;
            // The answer is the last that is seen of a request: its arena may be unmapped now.
            drop(operation);
            desk.tell(lane, tag, outcome);
        });
    }

    /// After the last request of a turn: whoever else has something to do is told.
    pub fn hand_over(&mut self) {
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
        let now = self.tasks.has_ready().then(Instant::now);
        self.desk.next_due().into_iter().chain(self.write_back).chain(now).min()
    }

    /// Goes on with what waited for this time.
    pub fn due(&mut self, now: Instant) {
        self.desk.wake_due(now);
        if self.write_back.is_some_and(|due| due <= now) {
            self.write_back = None;
            let disk = Rc::clone(&self.disk);
            // A failure comes again with the next flush, and then somebody is told.
            self.tasks.spawn(async move {
                let _told_later = disk.write_back().await;
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

    /// Whether some of it lies on servers.
    pub fn has_remotes(&self) -> bool {
        self.desk.has_remotes()
    }

    /// Sends to servers and hears from them as far as that goes without waiting.
    pub fn pump(&mut self) {
        self.desk.pump();
        self.settle();
    }

    /// Writes what only memory has, when nothing is under way any more. It may block.
    pub fn close(&mut self) -> Outcome {
        self.desk.set_alone(true);
        let shut = finish(self.disk.shut());
        for remote in self.desk.remotes() {
            remote.farewell();
        }
        shut
    }

    fn settle(&mut self) {
        self.tasks.run_some(TURN);
        self.hand_over();
    }

    fn watch(&mut self) {
        if self.write_back.is_none() && self.disk.has_changed() {
            self.write_back = Some(Instant::now() + UNWRITTEN);
        }
    }
}
