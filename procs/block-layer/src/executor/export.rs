//! One consumer of the graph, and the life of its rings: the second half of the fence.
//!
//! ```text
//!             attach                detach, or a lane's fault
//!  Detached ──────────▶ Attached ─────────────────────────────▶ Leaving
//!      ▲                                                           │ every lane has reported
//!      └───────────────────────────────────────────────────────────┘ Detached, ExportFault
//! ```
//!
//! Leaving begins with one store: `revoked` stops workers between two calls, requests that still wait
//! are discarded, and no lane takes another entry. It ends when the last call that had begun has
//! returned. Only then is the supervisor told, and only then may a successor replay.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhead_protocol::block::{BlockEvent, ExportPlan};
use bulkhead_protocol::device::DiskInfo;
use bulkhead_ring::{RingGeometry, Server};

use super::{Executor, ExecutorError};
use crate::graph::Graph;
use crate::lane::{Attachment, ToLane};
use crate::request::Limits;

/// One consumer.
#[derive(Debug)]
pub struct Export {
    number: u32,
    lanes: Range<usize>,
    geometry: RingGeometry,
    read_only: bool,
    bitmap: Option<Arc<str>>,
    state: State,
}

#[derive(Debug)]
enum State {
    Detached,
    Attached {
        revoked: Arc<AtomicBool>,
    },
    Leaving {
        /// Lanes that have not reported.
        left: usize,
        /// What the first faulty lane saw.
        fault: Option<String>,
        /// Whether the supervisor waits for `Detached`.
        asked: bool,
    },
}

impl Export {
    pub(super) fn new(plan: ExportPlan, lanes: Range<usize>) -> Result<Self, ExecutorError> {
        Ok(Self {
            number: plan.export,
            lanes,
            geometry: RingGeometry::new(plan.ring.entries, plan.ring.arena)?,
            read_only: plan.read_only,
            bitmap: plan.bitmap.map(Arc::from),
            state: State::Detached,
        })
    }

    /// Its lanes' numbers.
    pub(super) fn lanes(&self) -> Range<usize> {
        self.lanes.clone()
    }

    fn limits(&self, disk: DiskInfo) -> Limits {
        Limits {
            size: disk.size,
            block: disk.logical_block,
            read_only: self.read_only || disk.read_only,
            discard: disk.discard,
            arena: self.geometry.arena_len(),
        }
    }
}

impl Executor {
    /// The first lanes in a row that no export has.
    pub(super) fn free_lanes(&self, queues: usize) -> Option<Range<usize>> {
        let is_free = |lane| !self.exports.iter().any(|export| export.lanes.contains(&lane));
        let rows = (0..=self.lanes.len().checked_sub(queues)?).map(|first| first..first + queues);
        rows.into_iter().find(|row| row.clone().all(is_free))
    }

    /// A consumer more.
    pub(super) fn add_export(
        &mut self,
        plan: ExportPlan,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ExecutorError> {
        if self.exports.iter().any(|export| export.number == plan.export) {
            return Err(ExecutorError::Command("an export that there is"));
        }
        if self.graph.is_none() {
            return Err(ExecutorError::Command("an export of a disk that is not open"));
        }
        self.open_export(plan, &mut fds.into_iter())
    }

    /// A consumer less. Its lanes are free, and give their leases back if they have some.
    pub(super) fn remove_export(&mut self, number: u32) -> Result<(), ExecutorError> {
        let it = self.exports.iter().position(|export| export.number == number);
        let index = it.ok_or(ExecutorError::Command("the end of an export that is not"))?;
        if !matches!(self.exports[index].state, State::Detached) {
            return Err(ExecutorError::Command("the end of an export that is attached"));
        }
        self.exports.remove(index);
        self.settle_leases();
        Ok(())
    }

    /// Fresh rings for a detached export. Not even half of it is attached if one ring is wrong.
    pub(super) fn attach(
        &mut self,
        number: u32,
        queues: u16,
        incarnation: u64,
        rings: Vec<OwnedFd>,
    ) -> Result<(), ExecutorError> {
        let disk = self.graph.as_ref().map(Graph::info);
        let disk = disk.ok_or(ExecutorError::Command("rings for a disk that is not open"))?;
        let export = self.exports.iter_mut().find(|export| export.number == number);
        let export = export.ok_or(ExecutorError::Command("rings for an export that is not"))?;
        if !matches!(export.state, State::Detached) {
            return Err(ExecutorError::Command("rings for an export that has some"));
        }
        if usize::from(queues) != export.lanes.len() || rings.len() != export.lanes.len() {
            return Err(ExecutorError::Command("another number of rings than the export has"));
        }
        let servers = rings
            .iter()
            .map(|ring| Server::attach(ring, export.geometry, incarnation))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ExecutorError::Ring { export: number, error })?;
        let revoked = Arc::new(AtomicBool::new(false));
        for (lane, server) in self.lanes[export.lanes.clone()].iter().zip(servers) {
            lane.post(ToLane::Attach(Box::new(Attachment {
                server,
                entries: export.geometry.entries(),
                limits: export.limits(disk),
                size: Arc::clone(&self.size),
                bitmap: export.bitmap.clone(),
                revoked: Arc::clone(&revoked),
            })));
        }
        export.state = State::Attached { revoked };
        Ok(())
    }

    /// The export's process is dead.
    pub(super) fn detach(&mut self, number: u32) -> Result<(), ExecutorError> {
        let index = self.exports.iter().position(|export| export.number == number);
        let index = index.ok_or(ExecutorError::Command("Detach for an export that is not"))?;
        match &mut self.exports[index].state {
            State::Attached { .. } => self.leave(index, None, true),
            State::Leaving { asked, .. } => *asked = true,
            State::Detached => self.events.push(BlockEvent::Detached { export: number }),
        }
        Ok(())
    }

    fn leave(&mut self, index: usize, fault: Option<String>, asked: bool) {
        let export = &mut self.exports[index];
        let left = export.lanes.len();
        let leaving = State::Leaving { left, fault, asked };
        if let State::Attached { revoked } = std::mem::replace(&mut export.state, leaving) {
            revoked.store(true, Ordering::Release);
        }
        for lane in &self.lanes[export.lanes.clone()] {
            lane.post(ToLane::Detach);
        }
        if let Some(graph) = &mut self.graph {
            graph.discard_revoked();
        }
    }

    /// The peer of one lane broke the ring's law: all its rings go.
    pub(super) fn lane_fault(&mut self, lane: usize, reason: String) {
        let Some(index) = self.export_of(lane) else {
            return;
        };
        match &mut self.exports[index].state {
            State::Attached { .. } => self.leave(index, Some(reason), false),
            State::Leaving { fault, .. } => *fault = fault.take().or(Some(reason)),
            State::Detached => {}
        }
    }

    /// A lane's attachment is over.
    pub(super) fn lane_left(&mut self, lane: usize) {
        let Some(index) = self.export_of(lane) else {
            return;
        };
        let export = &mut self.exports[index];
        let State::Leaving { left, .. } = &mut export.state else {
            return;
        };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        let number = export.number;
        let left = std::mem::replace(&mut export.state, State::Detached);
        if let State::Leaving { fault, asked, .. } = left {
            let fault = fault.map(|reason| BlockEvent::ExportFault { export: number, reason });
            let detached = asked.then_some(BlockEvent::Detached { export: number });
            self.events.extend(fault.into_iter().chain(detached));
        }
    }

    fn export_of(&self, lane: usize) -> Option<usize> {
        self.exports.iter().position(|export| export.lanes.contains(&lane))
    }
}
