//! A post: a place in the instance that one process after another holds.
//!
//! ```text
//!              order            pid, seal report         plan             Ready
//!  Vacant ──────────► Launching ───────────────► Sealed ───────► Planned ──────► Serving
//!    ▲                    │          attested      │                │               │
//!    │                    └────────────┬───────────┴────────────────┴───────────────┘
//!    │ back-off is over                │ condemned: killed for a fault of its own
//!    │                                 ▼
//!  Waiting ◄── restart ── reaped ── Dying ── not in time: an event; it stays here
//!                           │
//!                           ├──► Quarantined, for good
//!                           └──► Unneeded: its export was removed
//! ```
//!
//! A process that dies by itself is reaped from any phase. Nothing is handed over before `Sealed`,
//! which is entered only by a process that was attested.

use std::time::Instant;

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::control::{ProcessInfo, ProcessState};
use bulkhead_protocol::spec::SoftSpec;

use super::process::Process;
use crate::heartbeat::Heartbeat;
use crate::restart::Restart;

/// What a post is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The machine.
    Core,
    /// What executes its guest in software.
    SoftCpu(SoftSpec),
    /// A debugger's socket.
    Gdb,
    /// The API socket.
    Control,
    /// Keeps the output of stream number so-and-so.
    Sink(usize),
    /// virtio-console: PCI device number so-and-so.
    Console(usize),
    /// virtio-rng: PCI device number so-and-so.
    Rng(usize),
    /// The block-layer of a disk.
    BlockLayer(usize),
    /// The vhost-blk of a disk.
    Blk(usize),
    /// The nbd-server of a disk, which is the consumer of this number.
    Nbd(usize, usize),
}

impl Role {
    /// The class that serves it.
    pub fn class(self) -> ProcessClass {
        match self {
            Self::Core => ProcessClass::Core,
            Self::SoftCpu(soft) => soft.class(),
            Self::Gdb => ProcessClass::Gdb,
            Self::Control => ProcessClass::Control,
            Self::Sink(_) => ProcessClass::Sink,
            Self::Console(_) => ProcessClass::VhostConsole,
            Self::Rng(_) => ProcessClass::VhostRng,
            Self::BlockLayer(_) => ProcessClass::BlockLayer,
            Self::Blk(_) => ProcessClass::VhostBlk,
            Self::Nbd(..) => ProcessClass::NbdServer,
        }
    }
}

/// Where a post is in the life of its process.
#[derive(Debug)]
pub enum Phase {
    /// Nobody, and nobody was ordered.
    Vacant,
    /// Ordered: its pid and its seal report are awaited, in either order.
    Launching(Process),
    /// Attested; waits for its plan.
    Sealed(Process),
    /// Has its plan.
    Planned(Process),
    /// Serves.
    Serving(Process, Heartbeat),
    /// Killed, not reaped yet.
    Dying(Process),
    /// Dead; the successor is ordered when the timer of this number is due.
    Waiting(u64),
    /// Dead for good.
    Quarantined,
    /// Dead, and not missed: its export was removed. The place may be given to another.
    Unneeded,
}

/// A post.
#[derive(Debug)]
pub struct Post {
    /// What it is for.
    pub role: Role,
    /// Which one of its class (`d0`; empty if there is only one).
    pub id: String,
    /// CPUs its process may use; empty: all.
    pub cpus: Vec<u32>,
    /// Arguments of its process.
    pub arguments: Vec<String>,
    /// Where it is.
    pub phase: Phase,
    /// When it gets a successor.
    pub restart: Restart,
    /// Successors so far.
    pub restarts: u64,
    /// When the death was noticed that is being repaired.
    pub fell: Option<Instant>,
    /// A process died by a fault of its own since one last served: what it left in flight may be to
    /// blame.
    pub own_fault: bool,
    /// It has served at least once.
    pub has_served: bool,
}

impl Post {
    /// A vacant post.
    pub fn new(role: Role, id: &str, cpus: &[u32], arguments: Vec<String>) -> Self {
        let mut distinct = cpus.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        Self {
            role,
            id: id.to_owned(),
            cpus: distinct,
            arguments,
            phase: Phase::Vacant,
            restart: Restart::default(),
            restarts: 0,
            fell: None,
            own_fault: false,
            has_served: false,
        }
    }

    /// Its process, dead or alive.
    pub fn process(&self) -> Option<&Process> {
        match &self.phase {
            Phase::Launching(process)
            | Phase::Sealed(process)
            | Phase::Planned(process)
            | Phase::Serving(process, _)
            | Phase::Dying(process) => Some(process),
            Phase::Vacant | Phase::Waiting(_) | Phase::Quarantined | Phase::Unneeded => None,
        }
    }

    /// Its process, dead or alive.
    pub fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.phase {
            Phase::Launching(process)
            | Phase::Sealed(process)
            | Phase::Planned(process)
            | Phase::Serving(process, _)
            | Phase::Dying(process) => Some(process),
            Phase::Vacant | Phase::Waiting(_) | Phase::Quarantined | Phase::Unneeded => None,
        }
    }

    /// Its process, if that has its plan and was not killed.
    pub fn planned_mut(&mut self) -> Option<&mut Process> {
        match &mut self.phase {
            Phase::Planned(process) | Phase::Serving(process, _) => Some(process),
            _ => None,
        }
    }

    /// Whether its process has its plan, and has not said yet what came of it.
    pub fn is_planned(&self) -> bool {
        matches!(self.phase, Phase::Planned(_))
    }

    /// Takes its process, which leaves the post vacant.
    pub fn vacate(&mut self) -> Option<Process> {
        match std::mem::replace(&mut self.phase, Phase::Vacant) {
            Phase::Launching(process)
            | Phase::Sealed(process)
            | Phase::Planned(process)
            | Phase::Serving(process, _)
            | Phase::Dying(process) => Some(process),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Whether its process is the one that order `ticket` started.
    pub fn holds(&self, ticket: u64) -> bool {
        self.process().is_some_and(|process| process.ticket == ticket)
    }

    /// As `bulkhead ps` shows it.
    pub fn info(&self) -> ProcessInfo {
        let birth = self.process().and_then(|process| process.birth.as_ref());
        ProcessInfo {
            role: self.role.class(),
            id: self.id.clone(),
            pid: birth.map_or(0, |birth| birth.pid),
            state: self.state(),
            restarts: self.restarts,
            layers: birth.map_or_else(Vec::new, |birth| birth.layers.clone()),
            cpus: self.cpus.clone(),
        }
    }

    fn state(&self) -> ProcessState {
        match &self.phase {
            Phase::Quarantined => ProcessState::Quarantined,
            _ if self.restart.is_degraded() => ProcessState::Degraded,
            Phase::Serving(..) => ProcessState::Running,
            _ if self.has_served => ProcessState::Restarting,
            _ => ProcessState::Starting,
        }
    }
}
