//! The machine's devices: their ends, their backends, and the connection between backend and core.
//!
//! Every incarnation of a backend gets a fresh socket pair. Both ends are given away at once: a kept
//! duplicate would hide a hang-up.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bulkhead_protocol::core::{BackendKind, CoreCommand, DeviceKind, DevicePlan};
use bulkhead_protocol::device::{BlkCommand, ConsoleCommand, DeviceEvent, QueuePlan, RngCommand};
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::inflight;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::create_sealed;
use bulkhead_sys::seqpacket::stream_pair;

use super::Instance;
use super::foreign::FIRST_REDIAL;
use super::post::Role;
use super::token::PostIndex;

/// How many queues a device has, and how great they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Queues.
    pub count: u16,
    /// Greatest size of each.
    pub size: u16,
}

impl Queues {
    /// A fresh in-flight table for them.
    pub fn inflight(self) -> std::io::Result<OwnedFd> {
        create_sealed("inflight", inflight::table_size(self.count, self.size))
    }

    /// As a device process is told. `own_fault`: what its predecessor died of.
    pub fn plan(self, own_fault: bool) -> QueuePlan {
        QueuePlan { queues: self.count, queue_size: self.size, own_fault }
    }
}

/// One device of the machine.
#[derive(Debug)]
pub struct Device {
    /// As core is told.
    pub plan: DevicePlan,
    /// Who serves it.
    pub backend: Backend,
    /// A connection was handed to core and to a backend that lives.
    pub connected: bool,
    /// Until the next try to reach a foreign backend.
    pub redial: Duration,
    /// Why the guest is being told to reset it, if its backend is not simply gone.
    pub trouble: Option<String>,
    /// In-flight table, for a backend of our own.
    inflight: Option<OwnedFd>,
    kicks: Vec<Doorbell>,
    calls: Vec<Doorbell>,
}

/// Who serves a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The process of this post.
    Own(PostIndex),
    /// Another program: see this disk of the plan.
    Foreign(usize),
}

impl Device {
    /// A device with fresh ends. `inflight`: the table, if its maker is the caller.
    pub fn new(
        id: &str,
        kind: DeviceKind,
        backend: Backend,
        queues: Queues,
        inflight: Option<OwnedFd>,
    ) -> std::io::Result<Self> {
        let bells = || (0..queues.count).map(|_| Doorbell::new()).collect::<std::io::Result<_>>();
        let inflight = match (backend, inflight) {
            (Backend::Foreign(_), _) => None,
            (Backend::Own(_), Some(table)) => Some(table),
            (Backend::Own(_), None) => Some(queues.inflight()?),
        };
        Ok(Self {
            plan: DevicePlan {
                id: id.to_owned(),
                kind,
                backend: match backend {
                    Backend::Own(_) => BackendKind::Own,
                    Backend::Foreign(_) => BackendKind::Foreign,
                },
                queues: queues.count,
                queue_size: queues.size,
            },
            backend,
            connected: false,
            redial: FIRST_REDIAL,
            trouble: None,
            inflight,
            kicks: bells()?,
            calls: bells()?,
        })
    }

    /// What core gets: kick and call of each queue in turn, then the in-flight table.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let bells = self.kicks.iter().zip(&self.calls);
        let bells = bells.flat_map(|(kick, call)| [kick.as_fd(), call.as_fd()]);
        bells.chain(self.inflight.iter().map(AsFd::as_fd)).collect()
    }

    fn queues(&self, own_fault: bool) -> QueuePlan {
        let queues = Queues { count: self.plan.queues, size: self.plan.queue_size };
        queues.plan(own_fault)
    }
}

impl Instance {
    /// Hands vhost-console its plan.
    pub(super) fn plan_console(&mut self, post: PostIndex, device: usize) {
        let (columns, rows) = self.session_size();
        let own_fault = self.own_fault(post);
        let Some(here) = self.devices.get(device) else {
            return;
        };
        let (Some(table), Some(stream)) = (&here.inflight, self.streams.console()) else {
            return;
        };
        let command = ConsoleCommand::Plan { queues: here.queues(own_fault), columns, rows };
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) {
            let _ = process.command(command, &[table.as_fd(), stream]);
        }
        self.was_planned(post);
        self.connect_device(device);
    }

    /// Hands vhost-rng its plan.
    pub(super) fn plan_rng(&mut self, post: PostIndex, device: usize) {
        let own_fault = self.own_fault(post);
        let Some(here) = self.devices.get(device) else {
            return;
        };
        let Some(table) = &here.inflight else {
            return;
        };
        let command = RngCommand::Plan { queues: here.queues(own_fault) };
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) {
            let _ = process.command(command, &[table.as_fd()]);
        }
        self.was_planned(post);
        self.connect_device(device);
    }

    /// Whether the last process of a post died by a fault of its own.
    pub(super) fn own_fault(&self, post: PostIndex) -> bool {
        self.posts.get(post).is_some_and(|post| post.own_fault)
    }

    /// Connects core with a device's backend, as soon as both have their plans.
    pub(super) fn connect_device(&mut self, device: usize) {
        let Some(here) = self.devices.get(device) else {
            return;
        };
        if here.connected || !self.core_is_planned() {
            return;
        }
        let connected = match here.backend {
            Backend::Own(post) => self.connect_own(device, post),
            Backend::Foreign(disk) => self.connect_foreign(device, disk),
        };
        match connected {
            Ok(true) => {
                if let Some(here) = self.devices.get_mut(device) {
                    here.connected = true;
                }
                self.run_if_connected();
            }
            Ok(false) => {}
            Err(error) => self.fail(format!("no descriptor for a connection: {error}")),
        }
    }

    fn connect_own(&mut self, device: usize, post: PostIndex) -> std::io::Result<bool> {
        let Some(place) = self.posts.get_mut(post) else {
            return Ok(false);
        };
        let role = place.role;
        let Some(process) = place.planned_mut() else {
            return Ok(false);
        };
        let (front, back) = stream_pair()?;
        let sent = match role {
            Role::Blk(_) => process.command(BlkCommand::Connection, &[back.as_fd()]),
            Role::Console(_) => process.command(ConsoleCommand::Connection, &[back.as_fd()]),
            _ => process.command(RngCommand::Connection, &[back.as_fd()]),
        };
        // An error is a death, which the pidfd tells.
        let _ = sent;
        self.watch_room(post);
        self.give_connection(device, front)?;
        Ok(true)
    }

    /// Hands core its end of a connection.
    pub(super) fn give_connection(&mut self, device: usize, front: OwnedFd) -> std::io::Result<()> {
        let (ours, backends) = stream_pair()?;
        let command = CoreCommand::DeviceConnected { device: device as u16 };
        self.tell_core(command, &[front.as_fd(), ours.as_fd(), backends.as_fd()]);
        Ok(())
    }

    /// The backend's process is dead and reaped.
    pub(super) fn device_lost(&mut self, device: usize) {
        let Some(here) = self.devices.get_mut(device) else {
            return;
        };
        if std::mem::replace(&mut here.connected, false) {
            let device = device as u16;
            self.tell_core(CoreCommand::DeviceLost { device }, &[]);
        }
    }

    /// The machine's device that a role serves, if it serves one.
    fn device_of(&self, role: Role) -> Option<usize> {
        match role {
            Role::Console(device) | Role::Rng(device) => Some(device),
            Role::Blk(disk) | Role::BlockLayer(disk) => {
                self.disks.get(disk).and_then(|disk| disk.device)
            }
            Role::Core
            | Role::SoftCpu(_)
            | Role::Gdb
            | Role::Control
            | Role::Sink(_)
            | Role::Nbd(..) => None,
        }
    }

    /// The device of a role will not come back soon.
    pub(super) fn device_degraded(&mut self, role: Role) {
        if let Some(device) = self.device_of(role) {
            let device = device as u16;
            self.tell_core(CoreCommand::DeviceDegraded { device }, &[]);
        }
    }

    /// The guest broke a queue: it is told to reset the device. Another monitor's guest has heard from
    /// that monitor, which has an eventfd for it.
    fn queue_broken(&mut self, role: Role, id: &str, reason: String) {
        let device = self.device_of(role);
        match device.and_then(|device| self.devices.get_mut(device)) {
            Some(device) => {
                device.trouble = Some(reason);
                self.device_degraded(role);
            }
            None => self.tell_line(role.class(), id, reason),
        }
    }

    /// Core blames a device's backend.
    pub(super) fn on_device_fault(&mut self, device: usize, reason: String) {
        let Some(here) = self.devices.get_mut(device).filter(|here| here.connected) else {
            return;
        };
        match here.backend {
            Backend::Own(post) => self.suspect(post, reason),
            Backend::Foreign(disk) if !self.started => self.refuse_foreign(disk, &reason),
            Backend::Foreign(_) => {
                here.connected = false;
                self.foreign_lost(device, reason);
            }
        }
    }

    /// A device's backend has shaken hands with core.
    pub(super) fn on_device_up(&mut self, device: usize) {
        let Some(here) = self.devices.get_mut(device) else {
            return;
        };
        here.redial = FIRST_REDIAL;
        if let Backend::Own(post) = here.backend {
            self.trust(post);
        }
    }

    /// News from a device process.
    pub(super) fn on_device(&mut self, post: PostIndex, event: DeviceEvent) {
        let Some(place) = self.posts.get(post) else {
            return;
        };
        let (role, id) = (place.role, place.id.clone());
        match event {
            DeviceEvent::PoisonRequest => self.tell(EventKind::PoisonRequest { id }),
            DeviceEvent::FrontendFault(reason) => self.tell_line(role.class(), &id, reason),
            DeviceEvent::QueueBroken { queue, reason } => {
                let reason = format!("its driver broke queue {queue}: {reason}");
                self.queue_broken(role, &id, reason);
            }
            DeviceEvent::Disconnected => {
                if let Role::Blk(disk) = role {
                    self.frontend_left(disk);
                }
            }
        }
    }
}
