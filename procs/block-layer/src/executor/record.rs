//! What the supervisor is told of the graph, and the changes that wait for it to write them down.
//!
//! Shared by the executor and the tasks that change the graph. A task that has drained the disk asks here
//! ([`Record::switch`]) and goes on when the supervisor has answered: recorded, or abandoned.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

use bulkhead_protocol::block::{BlockEvent, NamedLayer};

use crate::disk::Change;
use crate::job::Host;
use crate::node::Served;
use crate::outcome::{Failure, Outcome};
use crate::qcow2::Layer;
use crate::task::{Held, RangeLock};

/// See the module.
#[derive(Debug, Default)]
pub struct Record {
    /// The chain, the top layer first.
    layers: RefCell<Vec<NamedLayer>>,
    waiting: RefCell<Vec<Waiting>>,
    changes: Cell<u64>,
    events: RefCell<Vec<BlockEvent>>,
    beginnings: RangeLock,
}

#[derive(Debug)]
struct Waiting {
    change: u64,
    answer: Option<Result<(), String>>,
    waker: Option<Waker>,
}

impl Record {
    /// The chain as the plan has it.
    pub fn begin(&self, layers: Vec<NamedLayer>) {
        *self.layers.borrow_mut() = layers;
    }

    /// The chain as it is recorded.
    pub fn layers(&self) -> Vec<NamedLayer> {
        self.layers.borrow().clone()
    }

    /// How far from the top a layer is.
    pub fn depth(&self, number: u32) -> Option<usize> {
        self.layers.borrow().iter().position(|layer| layer.layer == number)
    }

    /// Waits until no snapshot is being made and no job chooses its layers: both know layers by their depth,
    /// and a layer that a snapshot leaves is opened again only when its image was shut.
    pub async fn begin_alone(&self) -> Held<'_> {
        self.beginnings.hold_all().await
    }

    /// Tells the supervisor something.
    pub fn tell(&self, event: BlockEvent) {
        self.events.borrow_mut().push(event);
    }

    /// What is to be told, oldest first.
    pub fn events(&self) -> Vec<BlockEvent> {
        self.events.take()
    }

    /// Has the supervisor write a new chain down. The disk is drained, and all is durable that the new
    /// chain needs.
    pub async fn switch(
        &self,
        call: Option<u64>,
        job: Option<String>,
        layers: Vec<NamedLayer>,
    ) -> Result<(), String> {
        let change = self.changes.get() + 1;
        self.changes.set(change);
        self.waiting.borrow_mut().push(Waiting { change, answer: None, waker: None });
        let chain = layers.iter().map(|layer| layer.layer).collect();
        self.tell(BlockEvent::Switching { change, call, job, chain });
        let answer = std::future::poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            let Some(at) = waiting.iter().position(|other| other.change == change) else {
                return Poll::Ready(Err("the change was forgotten".to_owned()));
            };
            if let Some(answer) = waiting[at].answer.take() {
                waiting.remove(at);
                return Poll::Ready(answer);
            }
            waiting[at].waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        if answer.is_ok() {
            *self.layers.borrow_mut() = layers;
        }
        answer
    }

    /// The supervisor's answer; `false`: nobody asked.
    pub fn answered(&self, change: u64, answer: Result<(), String>) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let Some(other) = waiting.iter_mut().find(|other| other.change == change) else {
            return false;
        };
        other.answer = Some(answer);
        if let Some(waker) = other.waker.take() {
            waker.wake();
        }
        true
    }
}

/// The host of one job.
#[derive(Debug)]
pub struct JobHost {
    /// Where changes are written down.
    pub record: Rc<Record>,
    /// The job's name.
    pub job: String,
    /// The layer that it writes, if that may take the disk's place.
    pub target: Option<NamedLayer>,
}

impl JobHost {
    fn chain_after(&self, change: &Change<Served>) -> Option<Vec<NamedLayer>> {
        let mut layers = self.record.layers();
        match change {
            Change::Drop { from, to } => {
                drop(layers.drain(*from..(*to).min(layers.len())));
            }
            Change::Push(_) => layers.insert(0, self.target.clone()?),
            Change::Replace(layer) => {
                let target = self.target.clone()?;
                let below = layer.backing().map_or(layers.len(), |_| 1);
                layers.splice(..below.min(layers.len()), [target]);
            }
        }
        (!layers.is_empty()).then_some(layers)
    }
}

impl Host<Served> for JobHost {
    async fn switch(&self, change: &Change<Served>) -> Outcome {
        let layers = self.chain_after(change).ok_or(Failure::INVALID)?;
        let recorded = self.record.switch(None, Some(self.job.clone()), layers).await;
        recorded.map_err(|_| Failure::DISCARDED)
    }
}

/// The layer at a depth.
pub fn layer_at(top: &Layer<Served>, depth: usize) -> Option<Layer<Served>> {
    top.chain().nth(depth)
}
