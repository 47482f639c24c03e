//! The main thread: its lane, the frontend's connection, the supervisor's channel, the other lanes.
//!
//! ```text
//!           Connection              hang-up or fault           all queues stopped
//!   Alone ─────────────► Connected ──────────────────► Closing ───────────────────► Alone
//!                                                                says Disconnected
//! ```

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::device::DeviceEvent;
use bulkhead_runtime::{Incoming, RuntimeError};
use bulkhead_sys::poller::{Event, Interest, Poller, Token};

use crate::device::{Device, DeviceFault};
use crate::inflight::{InflightTable, TableError};
use crate::lane::{Answer, Crew, FIRST_OF_PROCESS, Lane, MOST_QUEUES, Report};
use crate::link::{Command, Link};
use crate::session::{Identity, Order, Session};
use crate::wire::WireFault;

const SUPERVISOR: Token = FIRST_OF_PROCESS;
const FRONTEND: Token = FIRST_OF_PROCESS + 1;
const CREW: Token = FIRST_OF_PROCESS + 2;

/// Most heartbeats that are waited for; a supervisor that sends more has given this process up.
const MOST_HEARTBEATS: usize = 16;

/// What a class adds: how it understands its commands.
pub trait Role {
    /// The commands of the class.
    type Command;
    /// Its device.
    type Device: Device;

    /// Understands a command. An error blames the supervisor, and ends the process.
    fn understand(
        &mut self,
        command: Self::Command,
        fds: Vec<OwnedFd>,
    ) -> Result<Vec<Instruction<<Self::Device as Device>::Order>>, String>;
}

/// What a command comes to.
pub enum Instruction<O> {
    /// Serve this frontend, after the one before is gone.
    Connect(OwnedFd),
    /// Pass this to the device of a lane (0 is the first).
    Order(usize, O),
    /// The configuration space changed.
    Config(Vec<u8>),
}

/// Why a process ends.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The supervisor ended it, or broke the channel.
    #[error(transparent)]
    Supervisor(#[from] RuntimeError),
    /// The supervisor said something that makes no sense.
    #[error("the supervisor's command: {0}")]
    Command(String),
    /// A device cannot go on.
    #[error(transparent)]
    Device(#[from] DeviceFault),
    /// The kernel refused.
    #[error(transparent)]
    Host(#[from] std::io::Error),
    /// The in-flight table of the plan.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Another lane cannot go on.
    #[error("{0}")]
    Lane(String),
}

/// Leaves as the outcome says: 0 if the supervisor ended it, else 1 with last words. Every device
/// process's `main` ends here: the way out of Rust's runtime needs system calls that a sealed process
/// has not.
pub fn leave(class: ProcessClass, outcome: Result<(), ProcessError>) -> ! {
    match outcome {
        Ok(()) | Err(ProcessError::Supervisor(RuntimeError::Closed)) => bulkhead_runtime::exit(0),
        Err(error) => {
            bulkhead_runtime::log(&format!("{class}: {error}"));
            bulkhead_runtime::exit(1)
        }
    }
}

/// A live device process.
pub struct Process<L, R: Role> {
    link: L,
    role: R,
    identity: Identity,
    table: Arc<InflightTable>,
    lane: Lane<R::Device>,
    crew: Crew<R::Device>,
    session: Option<Session>,
    closing: bool,
    /// The frontend's socket is watched (not while a request of its is being carried out).
    watched: bool,
    next: Option<OwnedFd>,
    orders: Vec<Order>,
    /// Heartbeats that wait for other lanes, oldest first, and for how many. A slow lane is late, not
    /// dead, so one that follows does not replace the one before.
    heartbeats: VecDeque<(u64, usize)>,
}

impl<L: Link<R::Command>, R: Role> Process<L, R> {
    /// Puts a process together. `devices` has the part of each lane: one for all queues, or one for
    /// each queue, as many as `crew` has threads and one more. `poller` was made before the seal.
    pub fn new(
        link: L,
        role: R,
        identity: Identity,
        table: InflightTable,
        devices: Vec<R::Device>,
        crew: Crew<R::Device>,
        poller: Poller,
    ) -> Result<Self, ProcessError> {
        let queues = table.plan().queues;
        let mut devices = devices.into_iter();
        let Some(first) = devices.next() else {
            return Err(ProcessError::Command("a device without queues".into()));
        };
        let one_each = crew.len() + 1 == usize::from(queues);
        if queues > MOST_QUEUES || devices.len() != crew.len() || !(crew.is_empty() || one_each) {
            let reason = format!("{queues} queues for {} threads", crew.len() + 1);
            return Err(ProcessError::Command(reason));
        }
        poller.add(link.fd(), SUPERVISOR, Interest::Read)?;
        if let Some(bell) = crew.bell() {
            poller.add(bell, CREW, Interest::Read)?;
        }
        let own = if crew.is_empty() { queues } else { 1 };
        let lane = Lane::new(poller, first, 0..own, crew.counter())?;
        devices.enumerate().for_each(|(number, device)| crew.begin(number, device));
        Ok(Self {
            link,
            role,
            identity,
            table: Arc::new(table),
            lane,
            crew,
            session: None,
            closing: false,
            watched: false,
            next: None,
            orders: Vec::new(),
            heartbeats: VecDeque::new(),
        })
    }

    /// Serves until the supervisor ends it (`Ok`) or it cannot go on.
    pub fn run(mut self) -> Result<(), ProcessError> {
        let mut events = Vec::new();
        loop {
            match self.turn(&mut events) {
                Ok(()) => {}
                Err(ProcessError::Supervisor(RuntimeError::Closed)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn turn(&mut self, events: &mut Vec<Event>) -> Result<(), ProcessError> {
        self.lane.turn(events)?;
        for event in events.drain(..) {
            match event.token {
                SUPERVISOR => self.hear()?,
                FRONTEND => self.step()?,
                CREW => self.crew_reports()?,
                _ => {}
            }
        }
        self.own_reports()
    }

    fn hear(&mut self) -> Result<(), ProcessError> {
        while let Some(incoming) = self.link.next()? {
            match incoming {
                Incoming::Heartbeat(number) => self.heartbeat(number)?,
                Incoming::Role(command, fds) => self.command((command, fds))?,
                Incoming::Stop => return Err(RuntimeError::Closed.into()),
            }
        }
        Ok(())
    }

    /// Answered when all lanes have shown a sign of life; this one just does.
    fn heartbeat(&mut self, number: u64) -> Result<(), ProcessError> {
        match self.crew.ping(number) {
            0 => self.link.alive(number, self.crew.progress())?,
            lanes => self.heartbeats.push_back((number, lanes)),
        }
        if self.heartbeats.len() > MOST_HEARTBEATS {
            self.heartbeats.pop_front();
        }
        Ok(())
    }

    /// Each lane answers in the order in which it was asked, so heartbeats are complete in order.
    fn pong(&mut self, number: u64) -> Result<(), ProcessError> {
        if let Some((_, left)) = self.heartbeats.iter_mut().find(|(asked, _)| *asked == number) {
            *left = left.saturating_sub(1);
        }
        while let Some((number, 0)) = self.heartbeats.front().copied() {
            self.heartbeats.pop_front();
            self.link.alive(number, self.crew.progress())?;
        }
        Ok(())
    }

    fn command(&mut self, (command, fds): Command<R::Command>) -> Result<(), ProcessError> {
        for instruction in self.role.understand(command, fds).map_err(ProcessError::Command)? {
            match instruction {
                Instruction::Connect(socket) => {
                    self.next = Some(socket);
                    self.connect()?;
                }
                Instruction::Order(0, order) => self.lane.order(order)?,
                Instruction::Order(lane, order) => self.crew.order(lane - 1, order),
                Instruction::Config(config) => {
                    self.identity.config = config;
                    if let Some(session) = &mut self.session {
                        session.config_changed();
                    }
                }
            }
        }
        Ok(())
    }

    /// Serves the next frontend if the last one is gone.
    fn connect(&mut self) -> Result<(), ProcessError> {
        if self.session.is_some() {
            return Ok(());
        }
        let Some(socket) = self.next.take() else { return Ok(()) };
        let session = Session::new(socket, &self.identity, self.table.clone());
        self.session = Some(session);
        self.watch_frontend()
    }

    /// Watches the frontend's socket exactly while a message of its may be read.
    fn watch_frontend(&mut self) -> Result<(), ProcessError> {
        let Some(session) = &self.session else { return Ok(()) };
        let wanted = !self.closing && !session.is_waiting();
        if wanted != self.watched {
            self.watched = wanted;
            match wanted {
                true => self.lane.poller().add(session.as_fd(), FRONTEND, Interest::Read)?,
                false => self.lane.poller().remove(session.as_fd())?,
            }
        }
        Ok(())
    }

    /// The frontend said something or hung up.
    fn step(&mut self) -> Result<(), ProcessError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let stepped = match self.closing {
            true => Ok(()),
            false => session.step(&self.identity, &mut self.orders),
        };
        self.pass_on(stepped)
    }

    /// Sends orders to their lanes; a faulty frontend is dropped.
    fn pass_on(&mut self, outcome: Result<(), WireFault>) -> Result<(), ProcessError> {
        if let Err(fault) = outcome {
            self.close(fault)?;
        }
        for (queue, order) in self.orders.drain(..) {
            match queue.checked_sub(1).map(usize::from) {
                Some(lane) if lane < self.crew.len() => self.crew.order_queue(lane, queue, order),
                _ => self.lane.order_queue(queue, order),
            }
        }
        self.watch_frontend()
    }

    fn close(&mut self, fault: WireFault) -> Result<(), ProcessError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        if self.closing {
            return Ok(());
        }
        if !matches!(fault, WireFault::HungUp) {
            self.link.event(&DeviceEvent::FrontendFault(fault.to_string()))?;
        }
        self.closing = true;
        session.close(&mut self.orders);
        self.watch_frontend()?;
        self.closed()
    }

    /// The connection is over when its last queue has stopped.
    fn closed(&mut self) -> Result<(), ProcessError> {
        let over = self.session.as_ref().is_some_and(|session| session.running() == 0);
        if self.closing && over {
            (self.session, self.closing) = (None, false);
            self.link.event(&DeviceEvent::Disconnected)?;
            self.connect()?;
        }
        Ok(())
    }

    fn own_reports(&mut self) -> Result<(), ProcessError> {
        loop {
            let reports: Vec<Report> = self.lane.take_reports().collect();
            if reports.is_empty() {
                return Ok(());
            }
            reports.into_iter().try_for_each(|report| self.report(report))?;
        }
    }

    fn crew_reports(&mut self) -> Result<(), ProcessError> {
        if let Some(bell) = self.crew.bell() {
            bell.clear();
        }
        while let Some(report) = self.crew.next_report() {
            self.report(report)?;
        }
        Ok(())
    }

    fn report(&mut self, report: Report) -> Result<(), ProcessError> {
        match report {
            Report::Answer(answer) => self.answered(answer)?,
            Report::Pong(number) => self.pong(number)?,
            Report::Progressed => self.link.progressed()?,
            Report::Broken(queue, fault) => {
                let reason = fault.to_string();
                self.link.event(&DeviceEvent::QueueBroken { queue, reason })?;
            }
            Report::Poisoned(count) => {
                (0..count).try_for_each(|_| self.link.event(&DeviceEvent::PoisonRequest))?;
            }
            Report::Failed(reason) => return Err(ProcessError::Lane(reason)),
        }
        Ok(())
    }

    fn answered(&mut self, answer: Answer) -> Result<(), ProcessError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let outcome = session.answered(answer);
        self.pass_on(outcome)?;
        self.closed()
    }
}
