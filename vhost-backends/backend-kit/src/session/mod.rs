//! One frontend's connection, from its first message to its hang-up.
//!
//! ```text
//!   Message ──decode──► Request ──route──► one handler each ──► orders for lanes, and an outcome
//!                                                                   │ answered by the lanes
//!                                                     reply, acknowledgement or refusal
//! ```
//!
//! Law: one request at a time. The next one is not read before all lanes have answered the orders of
//! the last: an acknowledged memory region is in use, a stopped queue is still. The main thread serves
//! on meanwhile.
//!
//! Ring addresses, sizes and features are frozen while a queue runs.

mod features;
mod handlers;
mod memory_table;
mod vring;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bulkhead_memory::{MapError, WrittenPages};

pub use features::Identity;
use memory_table::MemoryTable;
use vring::{Vring, VringState};

use crate::inflight::{InflightTable, TableError};
use crate::lane::{Answer, QueueOrder};
use crate::wire::{FrontendSocket, LogPlace, Message, Reply, Request, TableShape, WireFault};

/// Why a request is refused. The frontend is to blame, unless the reason names the host.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is not allowed now, or its numbers are none of this device's.
    #[error("{0}")]
    Request(String),
    /// A region of its memory table.
    #[error(transparent)]
    Memory(#[from] MapError),
    /// Its in-flight table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// An order about a queue, by the queue's index.
pub type Order = (u16, QueueOrder);

/// What a request comes to once its orders are carried out.
#[derive(Debug)]
enum Outcome {
    Done,
    Number(u64),
    Vring(u16),
    Config { offset: u32, bytes: Vec<u8> },
    Inflight(TableShape),
    Log(LogPlace),
}

/// A request whose orders are being carried out.
#[derive(Debug)]
struct Waiting {
    request: u32,
    acknowledge: bool,
    outcome: Result<Outcome, String>,
    left: usize,
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    socket: FrontendSocket,
    own_table: Arc<InflightTable>,
    offered: u64,
    accepted: Option<u64>,
    protocol: u64,
    memory: MemoryTable,
    log: Option<Arc<WrittenPages>>,
    vrings: Vec<Vring>,
    table: Option<Arc<InflightTable>>,
    /// Socket for requests of our own.
    requests: Option<OwnedFd>,
    waiting: Option<Waiting>,
}

impl Session {
    /// A fresh connection to a device whose in-flight table is `own_table`.
    pub fn new(socket: OwnedFd, identity: &Identity, own_table: Arc<InflightTable>) -> Self {
        let queues = own_table.plan().queues;
        Self {
            socket: FrontendSocket::new(socket),
            own_table,
            offered: identity.offered(),
            accepted: None,
            protocol: 0,
            memory: MemoryTable::default(),
            log: None,
            vrings: (0..queues).map(|_| Vring::default()).collect(),
            table: None,
            requests: None,
            waiting: None,
        }
    }

    /// Whether a request's orders are being carried out; no other is to be read meanwhile.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Reads the next request, if it is there, and handles it. What lanes have to do is appended to
    /// `orders`.
    pub fn step(&mut self, identity: &Identity, orders: &mut Vec<Order>) -> Result<(), WireFault> {
        if self.is_waiting() {
            return Ok(());
        }
        match self.socket.receive()? {
            None => Ok(()),
            Some(message) => self.handle(message, identity, orders),
        }
    }

    fn handle(
        &mut self,
        message: Message,
        identity: &Identity,
        orders: &mut Vec<Order>,
    ) -> Result<(), WireFault> {
        let (number, need_reply) = (message.request, message.need_reply);
        let request = Request::decode(message)?;
        let acknowledge = need_reply && !request.has_reply() && self.acknowledges();
        let before = orders.len();
        let outcome = self.route(request, identity, orders).map_err(|refusal| refusal.to_string());
        if outcome.is_err() {
            orders.truncate(before);
        }
        let left = orders.len() - before;
        self.waiting = Some(Waiting { request: number, acknowledge, outcome, left });
        self.settle()
    }

    /// A lane answered an order.
    pub fn answered(&mut self, answer: Answer) -> Result<(), WireFault> {
        if let Answer::Stopped { queue, .. } | Answer::NotStarted { queue, .. } = answer
            && let Some(vring) = self.vrings.get_mut(usize::from(queue))
        {
            vring.state = VringState::Stopped;
            if let Answer::Stopped { base, .. } = answer {
                vring.base = base;
            }
        }
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        if let Answer::Refused(reason) | Answer::NotStarted { reason, .. } = answer {
            waiting.outcome = Err(reason);
        }
        waiting.left = waiting.left.saturating_sub(1);
        self.settle()
    }

    /// Replies if all orders are answered. The one place that decides whether and what.
    fn settle(&mut self) -> Result<(), WireFault> {
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.left == 0) else {
            return Ok(());
        };
        let reply = match &waiting.outcome {
            Ok(Outcome::Done) if waiting.acknowledge => Reply::DONE,
            Ok(Outcome::Done) => return Ok(()),
            Ok(Outcome::Number(number)) => Reply::Number(*number),
            Ok(Outcome::Vring(index)) => self.vring_reply(*index),
            Ok(Outcome::Config { offset, bytes }) => Reply::Config { offset: *offset, bytes },
            Ok(Outcome::Inflight(shape)) => {
                Reply::Inflight { shape: *shape, fd: self.own_table.as_fd() }
            }
            Ok(Outcome::Log(place)) => Reply::Log(*place),
            Err(_) if waiting.acknowledge => Reply::REFUSED,
            Err(reason) => {
                let (request, reason) = (waiting.request, reason.clone());
                return Err(WireFault::Refused { request, reason });
            }
        };
        self.socket.reply(waiting.request, &reply)
    }

    fn vring_reply(&self, index: u16) -> Reply<'static> {
        let base = self.vrings.get(usize::from(index)).map_or(0, |vring| vring.base);
        Reply::Vring { index: index.into(), base }
    }

    /// Stops every queue that runs: the frontend is gone. Answers how many stops are awaited.
    pub fn close(&mut self, orders: &mut Vec<Order>) -> usize {
        self.waiting = None;
        self.stop_all(orders)
    }

    /// How many queues are not stopped yet.
    pub fn running(&self) -> usize {
        self.vrings.iter().filter(|vring| vring.state != VringState::Stopped).count()
    }

    /// Tells the frontend that the configuration space changed, if it listens.
    pub fn config_changed(&mut self) {
        let told =
            self.requests.as_ref().map(|socket| crate::wire::send_config_change(socket.as_fd()));
        if matches!(told, Some(Err(_))) {
            self.requests = None;
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
