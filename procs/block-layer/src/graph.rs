//! The graph: nodes, and the flights that are between two steps.
//!
//! Owned by the executor and used on its thread only. It moves requests: takes the steps that nodes
//! ask for, hands work to workers, keeps the waits, resumes parents. It knows no kind of node.

mod flights;
mod waits;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bulkhead_protocol::device::DiskInfo;

pub use flights::FlightId;
use flights::{Flight, Flights, Requester};
use waits::Waits;

use crate::executor::Mail;
use crate::image::Image;
use crate::lane::{Forwarded, Lease, ToLane};
use crate::mailbox::Mailbox;
use crate::node::{Delay, News, Node, Operands, Raw, Step, Steps};
use crate::outcome::{Failure, Outcome};
use crate::pool::{Answer, Job, Pool};

/// A node's place in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(usize);

/// The graph of one disk.
#[derive(Debug)]
pub struct Graph {
    /// Children before their parents; the last is the root. Never empty.
    nodes: Vec<Box<dyn Node>>,
    flights: Flights,
    steps: Steps,
    waits: Waits,
    pool: Arc<Pool>,
    /// What the steps have for the workers.
    jobs: Vec<Job>,
    executor: Arc<Mailbox<Mail>>,
}

impl Graph {
    /// A raw image, with a delay in front of it unless that is zero.
    pub fn raw(
        image: Image,
        delay: Duration,
        pool: Arc<Pool>,
        executor: Arc<Mailbox<Mail>>,
    ) -> Self {
        let info = image.info();
        let mut nodes: Vec<Box<dyn Node>> = vec![Box::new(Raw::new(image))];
        if !delay.is_zero() {
            nodes.push(Box::new(Delay::new(NodeId(0), info, delay)));
        }
        Self {
            nodes,
            flights: Flights::default(),
            steps: Steps::default(),
            waits: Waits::default(),
            pool,
            jobs: Vec::new(),
            executor,
        }
    }

    fn root(&self) -> NodeId {
        NodeId(self.nodes.len() - 1)
    }

    /// What the disk is.
    pub fn info(&self) -> DiskInfo {
        self.nodes[self.root().0].info()
    }

    /// What lanes may do without asking.
    pub fn lease(&self) -> Option<Lease> {
        self.nodes[self.root().0].lease()
    }

    /// A request that a lane may not perform itself; the lane is told how it ended.
    pub fn submit(&mut self, forwarded: Forwarded) {
        let Forwarded { request, arena, revoked, lane } = forwarded;
        // It was on its way while its incarnation ended, and has missed `discard_revoked`.
        if revoked.load(Ordering::Acquire) {
            drop(arena);
            let (tag, outcome) = (request.tag, Err(Failure::DISCARDED));
            return lane.post(ToLane::Done { tag, outcome });
        }
        let operands = Operands { action: request.action, arena, revoked };
        let requester = Requester::Lane { lane, tag: request.tag };
        self.begin(self.root(), operands, requester);
        self.settle();
    }

    /// A worker is done.
    pub fn worked(&mut self, flight: FlightId, outcome: Outcome) {
        self.resume(flight, News::Worked(outcome));
        self.settle();
    }

    /// When a wait is over next.
    pub fn next_due(&self) -> Option<Instant> {
        self.waits.next()
    }

    /// Ends the waits that are over.
    pub fn due(&mut self, now: Instant) {
        while let Some(flight) = self.waits.pop(now) {
            self.resume(flight, News::Due);
        }
        self.settle();
    }

    /// Ends every wait of a dead requester. What is with a worker ends by itself.
    pub fn discard_revoked(&mut self) {
        let flights = &self.flights;
        let cut_short = self.waits.take_if(|flight| {
            let flight = flights.get(flight);
            flight.is_none_or(|flight| flight.operands.revoked.load(Ordering::Acquire))
        });
        for flight in cut_short {
            self.resume(flight, News::Revoked);
        }
        self.settle();
    }

    fn begin(&mut self, node: NodeId, operands: Operands, requester: Requester) {
        let flight = Flight { node, operands, requester };
        let id = self.flights.insert(flight);
        if let Some(flight) = self.flights.get(id) {
            self.nodes[node.0].start(id, &flight.operands, &mut self.steps);
        }
    }

    fn resume(&mut self, id: FlightId, news: News) {
        if let Some(flight) = self.flights.get(id) {
            self.nodes[flight.node.0].resume(id, &flight.operands, news, &mut self.steps);
        }
    }

    /// Takes steps until no node asks for more.
    fn settle(&mut self) {
        while let Some((id, step)) = self.steps.next() {
            match step {
                Step::Finish(outcome) => self.finish(id, outcome),
                Step::Wait(until) => self.waits.push(until, id),
                Step::Work { image, action, done } => {
                    let Some(flight) = self.flights.get(id) else {
                        continue;
                    };
                    let Operands { arena, revoked, .. } = flight.operands.clone();
                    let executor = Arc::clone(&self.executor);
                    let answer = Answer::Executor { executor, flight: id };
                    self.jobs.push(Job { image, action, done, arena, revoked, answer });
                }
                Step::Child { node, action } => {
                    let Some(flight) = self.flights.get(id) else {
                        continue;
                    };
                    let operands = Operands { action, ..flight.operands.clone() };
                    self.begin(node, operands, Requester::Flight(id));
                }
            }
        }
        self.pool.hand(&mut self.jobs);
    }

    fn finish(&mut self, id: FlightId, outcome: Outcome) {
        let Some(Flight { requester, operands, .. }) = self.flights.remove(id) else {
            return;
        };
        // The answer is the last that is seen of a flight: its arena may be unmapped now.
        drop(operands);
        match requester {
            Requester::Lane { lane, tag } => lane.post(ToLane::Done { tag, outcome }),
            Requester::Flight(parent) => self.resume(parent, News::Child(outcome)),
        }
    }
}
