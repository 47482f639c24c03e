//! The lane's loop: mail, a batch, and when there is neither, sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bulkhead_protocol::block_ring::BlockRequest;
use bulkhead_ring::Pace;
use bulkhead_sys::eventfd::Doorbell;

use super::link::{Link, LinkFault};
use super::{Forwarded, Lease, Report, ToLane};
use crate::executor::Mail;
use crate::image::Attempt;
use crate::mailbox::Mailbox;
use crate::outcome::Outcome;
use crate::pool::{Answer, Job, Pool};
use crate::request::Request;

/// Entries taken between two looks at the mail.
const BATCH: u32 = 32;

/// How an attachment ends.
#[derive(Debug)]
pub(super) enum Ending {
    Asked,
    Fault(LinkFault),
}

/// See the diagram in [`super`].
#[derive(Debug)]
pub(super) enum State {
    Empty,
    Serving(Link),
    Draining(Link, Ending),
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
    completed: Arc<AtomicU64>,
    pool: Arc<Pool>,
    executor: Arc<Mailbox<Mail>>,
    pub(super) bells: Option<Bells>,
    pub(super) state: State,
    pub(super) held: Held,
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
        completed: Arc<AtomicU64>,
        pool: Arc<Pool>,
        executor: Arc<Mailbox<Mail>>,
    ) -> Self {
        Self {
            number,
            mailbox,
            mail: Vec::with_capacity(64),
            completed,
            pool,
            executor,
            bells: None,
            state: State::Empty,
            held: Held::None,
            pace: Pace::new(),
            began: Instant::now(),
            ended: false,
        }
    }

    pub(super) fn run(mut self) {
        while !self.ended {
            self.read_mail();
            match self.serve() {
                Ok(0) => self.rest(),
                Ok(_) => self.pace.found(),
                Err(fault) => self.leave(Ending::Fault(fault)),
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
        self.finish_draining();
    }

    fn handle(&mut self, message: ToLane) {
        match message {
            ToLane::Place { submit, complete, cpu } => self.place(submit, complete, cpu),
            ToLane::Attach(attachment) => self.state = State::Serving(Link::new(*attachment)),
            ToLane::Detach => self.leave(Ending::Asked),
            ToLane::Lease(Some(lease)) => self.held = Held::Lease(lease),
            ToLane::Lease(None) => self.held = Held::Returning,
            ToLane::Done { tag, outcome } => self.done(tag, outcome),
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
            pool: &self.pool,
            executor: &self.executor,
            mailbox: &self.mailbox,
            completed: 0,
        };
        let mut taken = 0;
        while taken < BATCH
            && let Some(entry) = desk.link.take()?
        {
            desk.handle(entry)?;
            taken += 1;
        }
        let completed = desk.completed;
        self.publish(completed);
        Ok(taken)
    }

    /// A request that had left is over.
    fn done(&mut self, tag: u64, outcome: Outcome) {
        match &mut self.state {
            State::Empty => {}
            State::Draining(link, _) => link.returned(),
            State::Serving(link) => {
                link.returned();
                match link.complete(tag, outcome) {
                    Ok(()) => self.publish(1),
                    Err(fault) => self.leave(Ending::Fault(fault)),
                }
            }
        }
    }

    /// Shows the peer its completions, and wakes it if it sleeps.
    fn publish(&mut self, completed: u64) {
        if let (State::Serving(link), Some(bells)) = (&mut self.state, &self.bells) {
            link.server.complete.publish().ring_if_quiet(&bells.complete);
        }
        if completed > 0 {
            self.completed.fetch_add(completed, Ordering::Relaxed);
        }
    }

    pub(super) fn leave(&mut self, ending: Ending) {
        self.state = match std::mem::replace(&mut self.state, State::Empty) {
            State::Serving(link) => {
                link.revoked.store(true, Ordering::Release);
                State::Draining(link, ending)
            }
            other => other,
        };
        self.finish_draining();
    }

    fn finish_draining(&mut self) {
        if matches!(&self.state, State::Draining(link, _) if link.is_quiet()) {
            let report = match std::mem::replace(&mut self.state, State::Empty) {
                State::Draining(_, Ending::Fault(fault)) => Report::Fault(fault.to_string()),
                _ => Report::Detached,
            };
            self.report(report);
        }
        let quiet = match &self.state {
            State::Empty => true,
            State::Serving(link) | State::Draining(link, _) => link.is_quiet(),
        };
        if quiet && matches!(self.held, Held::Returning) {
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
    pool: &'a Pool,
    executor: &'a Mailbox<Mail>,
    mailbox: &'a Arc<Mailbox<ToLane>>,
    completed: u64,
}

impl Desk<'_> {
    #[inline]
    fn handle(&mut self, entry: BlockRequest) -> Result<(), LinkFault> {
        match self.link.limits.check(&entry) {
            Err(failure) => self.complete(entry.tag, Err(failure)),
            Ok(request) => self.perform(request),
        }
    }

    #[inline]
    fn perform(&mut self, request: Request) -> Result<(), LinkFault> {
        let Request { tag, action } = request;
        let Some(image) = self.lease.and_then(|lease| lease.covers(action)) else {
            self.forward(request);
            return Ok(());
        };
        match image.attempt(action, &self.link.server.arena) {
            Attempt::Done(outcome) => self.complete(tag, outcome),
            Attempt::WouldBlock { done } => {
                self.link.sent();
                let lane = Arc::clone(self.mailbox);
                self.pool.hand(Job {
                    image: Arc::clone(image),
                    action,
                    done,
                    arena: self.link.server.arena.clone(),
                    revoked: self.revoked(),
                    answer: Answer::Lane { lane, tag },
                });
                Ok(())
            }
        }
    }

    fn forward(&mut self, request: Request) {
        self.link.sent();
        self.executor.post(Mail::Perform(Forwarded {
            request,
            arena: self.link.server.arena.clone(),
            revoked: self.revoked(),
            lane: Arc::clone(self.mailbox),
        }));
    }

    fn revoked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.link.revoked)
    }

    #[inline]
    fn complete(&mut self, tag: u64, outcome: Outcome) -> Result<(), LinkFault> {
        self.completed += 1;
        self.link.complete(tag, outcome)
    }
}
