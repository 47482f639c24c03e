//! The lane's loop: mail, a batch, and when there is neither, sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bulkhead_protocol::block_ring::BlockRequest;
use bulkhead_ring::Pace;
use bulkhead_sys::eventfd::Doorbell;

use super::direct::Over;
use super::link::{Link, LinkFault};
use super::{Direct, Forwarded, Lease, Report, ToLane};
use crate::executor::Mail;
use crate::image::{Attempt, Call};
use crate::mailbox::Mailbox;
use crate::outcome::{Failure, Outcome};
use crate::pool::{Answer, Job, Pool};
use crate::request::{Action, Request};

/// Entries taken between two looks at the mail.
const BATCH: u32 = 32;

/// See the diagram in [`super`].
#[derive(Debug)]
pub(super) enum State {
    Empty,
    Serving(Link),
    Draining(Link),
}

/// The lease and its return.
#[derive(Debug)]
pub(super) enum Held {
    None,
    Lease(Lease),
    /// To be returned once nothing is out. Nothing is taken meanwhile.
    Returning,
}

pub(super) struct Lane {
    pub(super) number: usize,
    pub(super) mailbox: Arc<Mailbox<ToLane>>,
    /// Spare memory for `mailbox`.
    mail: Vec<ToLane>,
    /// Requests completed since the last publish.
    unpublished: u64,
    completed: Arc<AtomicU64>,
    pool: Arc<Pool>,
    /// What the batch has for the workers.
    jobs: Vec<Job>,
    /// What the kernel does by itself.
    pub(super) direct: Option<Direct>,
    /// Spare memory for what it has done.
    over: Vec<Over>,
    executor: Arc<Mailbox<Mail>>,
    /// The executor has mail of the batch, and was not woken for it yet.
    forwarded: bool,
    pub(super) bells: Option<Bells>,
    pub(super) state: State,
    pub(super) held: Held,
    /// Requests at workers: performed under the lease.
    under_lease: u32,
    pub(super) pace: Pace,
    /// The instant from which `pace` counts.
    pub(super) began: Instant,
    ended: bool,
}

#[derive(Debug)]
pub(super) struct Bells {
    pub(super) submit: Doorbell,
    pub(super) complete: Doorbell,
}

impl Lane {
    pub(super) fn new(
        number: usize,
        mailbox: Arc<Mailbox<ToLane>>,
        direct: Option<Direct>,
        completed: Arc<AtomicU64>,
        pool: Arc<Pool>,
        executor: Arc<Mailbox<Mail>>,
    ) -> Self {
        Self {
            number,
            mailbox,
            mail: Vec::with_capacity(64),
            unpublished: 0,
            completed,
            pool,
            jobs: Vec::with_capacity(BATCH as usize),
            direct,
            over: Vec::new(),
            executor,
            forwarded: false,
            bells: None,
            state: State::Empty,
            held: Held::None,
            under_lease: 0,
            pace: Pace::new(),
            began: Instant::now(),
            ended: false,
        }
    }

    pub(super) fn run(mut self) {
        while !self.ended {
            self.read_mail();
            self.collect();
            let taken = self.serve();
            if let Some(direct) = &mut self.direct {
                direct.submit(&mut self.jobs);
            }
            self.pool.hand(&mut self.jobs);
            if std::mem::take(&mut self.forwarded) {
                self.executor.ring();
            }
            self.publish();
            match taken {
                Ok(0) => self.rest(),
                Ok(_) => self.pace.found(),
                Err(fault) => self.fault(fault),
            }
        }
    }

    fn read_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        self.mailbox.collect(&mut mail);
        for message in mail.drain(..) {
            self.handle(message);
        }
        self.mail = mail;
    }

    /// What the kernel has done by itself.
    fn collect(&mut self) {
        let Some(direct) = &mut self.direct else {
            return;
        };
        let mut over = std::mem::take(&mut self.over);
        direct.collect(&mut over);
        for over in over.drain(..) {
            match over {
                Over::Rest(job) => self.jobs.push(job),
                Over::Done(Job { answer: Answer::Lane { request, .. }, .. }, outcome) => {
                    self.handle(ToLane::worked(request, outcome));
                }
                Over::Done(..) => {}
            }
        }
        self.over = over;
    }

    fn handle(&mut self, message: ToLane) {
        match message {
            ToLane::Place { submit, complete, cpu } => self.place(submit, complete, cpu),
            ToLane::Attach(attachment) => self.state = State::Serving(Link::new(*attachment)),
            ToLane::Detach => self.leave(),
            ToLane::Lease(Some(lease)) => self.held = Held::Lease(lease),
            ToLane::Lease(None) => self.held = Held::Returning,
            ToLane::Done { tag, outcome } => self.returned(tag, outcome),
            ToLane::Worked { tag, outcome } => {
                self.under_lease = self.under_lease.saturating_sub(1);
                self.returned(tag, outcome);
            }
            ToLane::Failed(request, failure) => {
                self.under_lease = self.under_lease.saturating_sub(1);
                self.send_again(request, failure);
            }
            ToLane::Beat(number) => self.report(Report::Beat(number)),
            ToLane::End => self.ended = true,
        }
    }

    fn place(&mut self, submit: Doorbell, complete: Doorbell, cpu: Option<u32>) {
        self.bells = Some(Bells { submit, complete });
        if let Some(cpu) = cpu {
            // A CPU that is gone or forbidden costs speed and nothing else.
            let _ = bulkhead_sys::cpu::restrict(0, &[cpu as usize]);
        }
    }

    /// Takes and handles up to a batch of entries; how many there were.
    fn serve(&mut self) -> Result<u32, LinkFault> {
        let State::Serving(link) = &mut self.state else {
            return Ok(0);
        };
        if matches!(self.held, Held::Returning) {
            return Ok(0);
        }
        let lease = match &self.held {
            Held::Lease(lease) => Some(lease),
            _ => None,
        };
        let mut desk = Desk {
            link,
            lease,
            jobs: &mut self.jobs,
            direct: &mut self.direct,
            executor: &self.executor,
            forwarded: &mut self.forwarded,
            mailbox: &self.mailbox,
            under_lease: &mut self.under_lease,
            completed: &mut self.unpublished,
        };
        let mut taken = 0;
        while taken < BATCH
            && let Some(entry) = desk.link.take()?
        {
            desk.handle(entry)?;
            taken += 1;
        }
        Ok(taken)
    }

    /// A request that had left is over.
    pub(super) fn returned(&mut self, tag: u64, outcome: Outcome) {
        match &mut self.state {
            State::Empty => {}
            State::Draining(link) => link.returned(),
            State::Serving(link) => {
                link.returned();
                self.unpublished += 1;
                if let Err(fault) = link.complete(tag, outcome) {
                    self.fault(fault);
                }
            }
        }
    }

    /// A request that failed under a lease: it is out still, at the executor now.
    fn send_again(&mut self, request: Request, failure: Failure) {
        let (State::Serving(link) | State::Draining(link)) = &self.state else {
            return;
        };
        self.executor.post(Mail::Perform(Forwarded {
            request,
            arena: link.server.arena.clone(),
            revoked: Arc::clone(&link.revoked),
            bitmap: None,
            failed: Some(failure),
            lane: Arc::clone(&self.mailbox),
        }));
    }

    /// Shows the peer its completions and wakes it if it sleeps; ends what has come to its end.
    fn publish(&mut self) {
        if self.unpublished > 0 {
            if self.completed.fetch_add(self.unpublished, Ordering::Relaxed) == 0 {
                self.report(Report::Progressed);
            }
            self.unpublished = 0;
            if let (State::Serving(link), Some(bells)) = (&mut self.state, &self.bells) {
                link.server.complete.publish().ring_if_quiet(&bells.complete);
            }
        }
        self.finish_draining();
    }

    /// The peer broke the ring's law. The executor hears of it at once: it holds requests of ours
    /// that this lane waits for.
    pub(super) fn fault(&mut self, fault: LinkFault) {
        self.report(Report::Fault(fault.to_string()));
        self.leave();
    }

    fn leave(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Empty) {
            State::Serving(link) => {
                link.revoked.store(true, Ordering::Release);
                State::Draining(link)
            }
            other => other,
        };
        self.finish_draining();
    }

    fn finish_draining(&mut self) {
        if matches!(&self.state, State::Draining(link) if link.is_quiet()) {
            self.state = State::Empty;
            self.report(Report::Detached);
        }
        if self.under_lease == 0 && matches!(self.held, Held::Returning) {
            self.held = Held::None;
            self.report(Report::LeaseReturned);
        }
    }

    fn report(&self, report: Report) {
        let lane = self.number;
        self.executor.post(Mail::Lane { lane, report });
    }
}

/// What handling one entry needs.
struct Desk<'a> {
    link: &'a mut Link,
    lease: Option<&'a Lease>,
    jobs: &'a mut Vec<Job>,
    direct: &'a mut Option<Direct>,
    executor: &'a Arc<Mailbox<Mail>>,
    forwarded: &'a mut bool,
    mailbox: &'a Arc<Mailbox<ToLane>>,
    under_lease: &'a mut u32,
    completed: &'a mut u64,
}

impl Desk<'_> {
    #[inline]
    fn handle(&mut self, entry: BlockRequest) -> Result<(), LinkFault> {
        match self.link.check(&entry) {
            Err(failure) => self.complete(entry.tag, Err(failure)),
            Ok(request) => self.perform(request),
        }
    }

    #[inline]
    fn perform(&mut self, request: Request) -> Result<(), LinkFault> {
        let Request { tag, action } = request;
        // Bitmaps are the executor's.
        if let Action::Status { dirty: true, .. } = action {
            self.forward(request, None);
            return Ok(());
        }
        let Some((image, there)) = self.lease.and_then(|lease| lease.covers(action)) else {
            self.forward(request, None);
            return Ok(());
        };
        match image.attempt(there, &self.link.server.arena) {
            // What becomes of it is for the executor to decide.
            Attempt::Done(Err(failure)) => {
                self.forward(request, Some(failure));
                Ok(())
            }
            Attempt::Done(outcome) => self.complete(tag, outcome),
            Attempt::WouldBlock { done } => {
                self.link.sent();
                *self.under_lease += 1;
                let lane = Arc::clone(self.mailbox);
                let job = Job {
                    image: Arc::clone(image),
                    call: Call::Request { action: there, arena: self.link.server.arena.clone() },
                    done,
                    revoked: Arc::clone(&self.link.revoked),
                    answer: Answer::Lane { lane, request },
                };
                self.jobs.extend(match self.direct {
                    Some(direct) => direct.add(job),
                    None => Some(job),
                });
                Ok(())
            }
        }
    }

    fn forward(&mut self, request: Request, failed: Option<Failure>) {
        self.link.sent();
        *self.forwarded = true;
        self.executor.put(Mail::Perform(Forwarded {
            request,
            arena: self.link.server.arena.clone(),
            revoked: Arc::clone(&self.link.revoked),
            bitmap: self.link.bitmap.clone(),
            failed,
            lane: Arc::clone(self.mailbox),
        }));
    }

    #[inline]
    fn complete(&mut self, tag: u64, outcome: Outcome) -> Result<(), LinkFault> {
        *self.completed += 1;
        self.link.complete(tag, outcome)
    }
}
