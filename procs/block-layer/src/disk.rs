//! A disk: what exports see. A chain of layers, and everything that stands in front of it.
//!
//! ```text
//! request ─▶ nodes ─▶ gate ─▶ watchers ─▶ top layer ─▶ watchers ─▶ answer
//!            (delay,           before:    (replaceable)  after:
//!            throttle,         copy-before-write         bitmaps, mirror
//!            faults)
//! ```
//!
//! One that has a [`Reference`] is compared with it behind the gate.
//!
//! Called by the [`graph`](crate::graph) for every request that no lane may perform by itself, and by
//! [`jobs`](crate::job), which attach watchers, drain the disk and change what it is made of.
//!
//! A change of the chain, whoever makes it: [`Disk::drain`], make durable what the new chain needs, have it
//! written down by the host ([`Host::switch`](crate::job::Host)), [`Disk::apply`], let go. Nothing is
//! written between the record and the change, so that a successor may begin from either.
//!
//! Law:
//! - Whoever attaches a watcher sees every change that begins afterwards: leases by which lanes go past
//!   the disk are taken back first ([`Bypass`]).
//! - Jobs read and write layers, never the disk: they are not held up by its gate.
//! - Below the top everything is durable: a flush is a flush of the top.

mod bypass;
mod change;
mod gate;
mod marked;
mod operation;
mod policy;
mod reference;
mod watcher;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use bypass::{Barred, Bypass};
pub use change::Change;
pub use gate::{Closed, Gate, Passage};
pub use marked::Marked;
pub use operation::Operation;
pub use policy::{Action, OnError, Policy};
pub use reference::Reference;
pub use watcher::Watcher;

use crate::clock::{Clock, wait_for};
use crate::node::Node;
use crate::outcome::{Failure, Outcome};
use crate::qcow2::Layer;
use crate::request::Durability;
use crate::storage::Storage;

/// How long a request waits for space before it is tried again.
const ANOTHER_TRY: Duration = Duration::from_secs(1);

/// What a disk has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskEvent {
    /// A request failed. It is told once for a request, however often it is tried.
    Failed {
        /// A read.
        read: bool,
        /// How.
        failure: Failure,
        /// What is done about it.
        action: Action,
    },
    /// Requests that waited have been performed: nothing waits any more.
    Resumed,
    /// It does not read as its reference does; the read fails.
    Differs {
        /// From which byte on.
        at: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Disk<S> {
    top: RefCell<Layer<S>>,
    nodes: RefCell<Vec<Rc<Node>>>,
    watchers: RefCell<Vec<Watcher<S>>>,
    /// What it is held against.
    reference: RefCell<Option<Rc<Reference<S>>>>,
    gate: Gate,
    bypass: Bypass,
    policy: Cell<Policy>,
    clock: Rc<dyn Clock>,
    /// Requests that wait for space or the operator.
    stopped: Cell<u64>,
    /// How often the operator said to go on.
    resumed: Cell<u64>,
    events: RefCell<Vec<DiskEvent>>,
}

/// Why a request was not performed.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// The disk failed.
    Failed(Failure),
    /// A watcher could not do what must come first.
    Hindered(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Nobody is in the disk until this is dropped.
#[derive(Debug)]
pub struct Drained<'a> {
    _closed: Closed<'a>,
    _barred: Barred,
}

/// A watcher that is attached until this is dropped.
#[derive(Debug)]
pub struct Attached<S: Storage> {
    disk: Rc<Disk<S>>,
    watcher: Watcher<S>,
    _barred: Barred,
}

impl<S: Storage> Drop for Attached<S> {
    fn drop(&mut self) {
        self.disk.watchers.borrow_mut().retain(|other| !other.is(&self.watcher));
    }
}

impl<S: Storage> Disk<S> {
    /// A disk of this chain.
    pub fn new(top: Layer<S>, clock: Rc<dyn Clock>) -> Self {
        Self {
            top: RefCell::new(top),
            nodes: RefCell::default(),
            watchers: RefCell::new(Vec::new()),
            reference: RefCell::default(),
            gate: Gate::default(),
            bypass: Bypass::default(),
            policy: Cell::default(),
            clock,
            stopped: Cell::new(0),
            resumed: Cell::new(0),
            events: RefCell::default(),
        }
    }

    /// The top layer.
    pub fn top(&self) -> Layer<S> {
        self.top.borrow().clone()
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.top.borrow().size()
    }

    /// Its clock.
    pub fn clock(&self) -> &Rc<dyn Clock> {
        &self.clock
    }

    /// The nodes in front of it, the first that a request comes to first.
    pub fn nodes(&self) -> Vec<Rc<Node>> {
        self.nodes.borrow().clone()
    }

    /// Other nodes in front of it, for requests that come from now on. Lanes must not have leases past
    /// them: see [`bypass`](Self::bypass).
    pub fn set_nodes(&self, nodes: Vec<Rc<Node>>) {
        *self.nodes.borrow_mut() = nodes;
    }

    /// Whether every lane may go past it; the executor asks after each turn.
    pub fn may_lend(&self) -> bool {
        self.bypass.may_lend() && self.nodes.borrow().is_empty() && !self.is_verified()
    }

    /// Leases that are out, and those who bar them.
    pub fn bypass(&self) -> &Bypass {
        &self.bypass
    }

    /// What is done about failures.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.set(policy);
    }

    /// What it has to tell, oldest first.
    pub fn events(&self) -> Vec<DiskEvent> {
        self.events.take()
    }

    /// Requests in the disk. Those that wait in front of the gate are not in it.
    pub fn under_way(&self) -> u64 {
        self.gate.under_way()
    }

    /// Requests that failed and wait for space or the operator.
    pub fn stopped(&self) -> u64 {
        self.stopped.get()
    }

    /// The operator lets requests that wait be tried again.
    pub fn resume(&self) {
        self.resumed.set(self.resumed.get() + 1);
    }

    /// Does what is asked for.
    pub async fn perform(&self, operation: &Operation, revoked: &AtomicBool) -> Outcome {
        self.perform_again(operation, revoked, None).await
    }

    /// The same for what a lane has `failed` at, if it has: what becomes of that is decided here, and it is not
    /// tried again before that.
    pub async fn perform_again(
        &self,
        operation: &Operation,
        revoked: &AtomicBool,
        mut failed: Option<Failure>,
    ) -> Outcome {
        let nodes = self.nodes();
        for node in &nodes {
            node.admit(operation, &self.clock, revoked).await?;
        }
        let mut told = false;
        loop {
            let outcome = match failed.take() {
                Some(failure) => Err(Trouble::Failed(failure)),
                None => {
                    let _passage = self.gate.enter().await;
                    self.pass(operation, &nodes).await
                }
            };
            let Err(trouble) = outcome else {
                return self.go_on(told);
            };
            let read = matches!(operation, Operation::Read { .. });
            let (failure, action) = self.action(read, trouble);
            if !told {
                self.events.borrow_mut().push(DiskEvent::Failed { read, failure, action });
                told = matches!(action, Action::Stop | Action::WaitForSpace);
                self.stopped.set(self.stopped.get() + u64::from(told));
            }
            let waited = match action {
                Action::Report => Err(failure),
                Action::Ignore => return self.go_on(told),
                Action::Stop | Action::WaitForSpace => self.wait_stopped(action, revoked).await,
            };
            if let Err(failure) = waited {
                self.go_on(told)?;
                return Err(failure);
            }
        }
    }

    fn action(&self, read: bool, trouble: Trouble) -> (Failure, Action) {
        let Policy { reads, writes } = self.policy.get();
        match trouble {
            Trouble::Failed(failure) => {
                (failure, if read { reads } else { writes }.action(failure))
            }
            Trouble::Hindered(failure) => (failure, Action::WaitForSpace),
        }
    }

    /// A request is over; if it was the last that waited, that is told.
    fn go_on(&self, told: bool) -> Outcome {
        if told {
            self.stopped.set(self.stopped.get() - 1);
            if self.stopped.get() == 0 {
                self.events.borrow_mut().push(DiskEvent::Resumed);
            }
        }
        Ok(())
    }

    async fn wait_stopped(&self, action: Action, revoked: &AtomicBool) -> Outcome {
        let resumed = self.resumed.get();
        loop {
            let until = self.clock.now() + ANOTHER_TRY;
            wait_for(&self.clock, until, revoked).await?;
            if action == Action::WaitForSpace || self.resumed.get() != resumed {
                return Ok(());
            }
        }
    }

    async fn pass(&self, operation: &Operation, nodes: &[Rc<Node>]) -> Result<(), Trouble> {
        if let Some(failure) = nodes.iter().find_map(|node| node.failure(operation)) {
            return Err(Trouble::Failed(failure));
        }
        let reference = self.reference.borrow().clone();
        match reference {
            None => self.pass_on(operation, nodes).await,
            Some(reference) => Box::pin(self.verify(operation, nodes, &reference)).await,
        }
    }

    async fn pass_on(&self, operation: &Operation, nodes: &[Rc<Node>]) -> Result<(), Trouble> {
        let top = self.top();
        if let Operation::Read { .. } = operation
            && nodes.iter().any(|node| node.copies_on_read())
        {
            let range = operation.range();
            // A copy that fails is made by a later read: this one needs it not.
            let _copied = Box::pin(top.adopt(range.start, range.end - range.start)).await;
        }
        if !operation.changes() || self.watchers.borrow().is_empty() {
            return Ok(perform(&top, operation).await?);
        }
        Box::pin(self.pass_watched(&top, operation)).await
    }

    async fn pass_watched(&self, top: &Layer<S>, operation: &Operation) -> Result<(), Trouble> {
        let watchers = self.watchers.borrow().clone();
        let operation = match watchers.iter().any(Watcher::wants_bytes) {
            true => operation.privately()?,
            false => operation.clone(),
        };
        let mut held = Vec::with_capacity(watchers.len());
        for watcher in &watchers {
            held.push(watcher.before(&operation).await.map_err(Trouble::Hindered)?);
        }
        let outcome = perform(top, &operation).await;
        for watcher in &watchers {
            watcher.after(&operation, outcome).await;
        }
        Ok(outcome?)
    }

    /// Waits until nobody is in the disk, lanes with leases included, and keeps everybody out.
    pub async fn drain(&self) -> Drained<'_> {
        let _barred = self.bypass.bar().await;
        Drained { _closed: self.gate.close().await, _barred }
    }

    /// Attaches a watcher while the disk is drained, so that no change is seen by half.
    pub async fn attach(self: &Rc<Self>, watcher: Watcher<S>) -> Attached<S> {
        let _barred = self.bypass.bar().await;
        let _drained = self.drain().await;
        self.watchers.borrow_mut().push(watcher.clone());
        Attached { disk: Rc::clone(self), watcher, _barred }
    }

    /// The same, in a disk that the caller has drained.
    pub async fn attach_drained(
        self: &Rc<Self>,
        watcher: Watcher<S>,
        _drained: &Drained<'_>,
    ) -> Attached<S> {
        let _barred = self.bypass.bar().await;
        self.watchers.borrow_mut().push(watcher.clone());
        Attached { disk: Rc::clone(self), watcher, _barred }
    }

    /// Changes the chain. It was recorded, and whatever the new chain needs is durable.
    pub fn apply(&self, change: &Change<S>, _drained: &Drained<'_>) {
        let top = change.apply(&self.top());
        *self.top.borrow_mut() = top;
    }

    /// Puts another layer with the same content in the place of the one at `depth`: one that may be
    /// written, for a commit.
    pub fn exchange(&self, depth: usize, layer: Layer<S>, _drained: &Drained<'_>) {
        let above = depth.checked_sub(1).and_then(|above| self.top().chain().nth(above));
        match above {
            Some(above) => above.set_backing(Some(layer)),
            None => *self.top.borrow_mut() = layer,
        }
    }

    /// Whether memory has something that the files do not have yet.
    pub fn has_changed(&self) -> bool {
        self.top.borrow().has_changed()
    }

    /// Writes that.
    pub async fn write_back(&self) -> Outcome {
        let top = self.top();
        top.close().await
    }

    /// The same when the disk is served no more by this process.
    pub async fn shut(&self) -> Outcome {
        let top = self.top();
        top.shut().await
    }
}

async fn perform<S: Storage>(top: &Layer<S>, operation: &Operation) -> Outcome {
    match operation {
        Operation::Read { at, into } => top.read(*at, into.clone()).await,
        Operation::Write { at, from, durability } => {
            top.write(*at, from.clone()).await?;
            match durability {
                Durability::Visible => Ok(()),
                Durability::Fua => top.flush().await,
            }
        }
        Operation::Flush => top.flush().await,
        Operation::Discard { at, len } => top.discard(*at, *len).await,
        Operation::Zero { at, len, unmap } => top.zero(*at, *len, *unmap).await,
        Operation::Status { at, len, into } => top.status(*at, *len).await?.put(into),
    }
}

#[cfg(test)]
mod tests;
