//! One virtio device: from its plan to the life that `vhost-frontend` leads for it.
//!
//! Data never comes through here: kicks and calls are eventfds between guest and backend.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use bulkhead_hypervisor::Vm;
use bulkhead_protocol::core::{BackendKind, CoreEvent, DeviceKind, DevicePlan};
use bulkhead_protocol::inflight;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::verify_sealed;
use bulkhead_vhost_frontend::{
    Connection, InflightTable, Patience, Plan, Report, SharedRam, VhostDevice,
};
use bulkhead_virtio_transport::{Attention, DeviceType, QueueBells, VirtioFunction};

/// What all devices share.
pub struct Surroundings {
    /// The engine's machine.
    pub vm: Arc<dyn Vm>,
    /// RAM, for backends and for a look at used indices.
    pub ram: SharedRam,
    /// Wakes the event loop when a driver wants something.
    pub attention: Attention,
}

/// The device.
pub struct Device {
    index: u16,
    vhost: VhostDevice,
    /// A backend has shaken hands, so the guest can be shown what the device is.
    is_known: bool,
}

impl Device {
    /// A device without backend. `fds` are as [`DevicePlan::fd_count`] says.
    pub fn new(
        index: u16,
        plan: &DevicePlan,
        fds: Vec<OwnedFd>,
        around: &Surroundings,
    ) -> anyhow::Result<Self> {
        ensure!(
            fds.len() == plan.fd_count(),
            "device {} comes with {} descriptors",
            plan.id,
            fds.len()
        );
        let mut fds = fds.into_iter();
        let mut bell = || {
            fds.next().map(|fd| Arc::new(Doorbell::from_fd(fd))).context("a doorbell is missing")
        };
        let mut bells = Vec::new();
        for _ in 0..plan.queues {
            bells.push(QueueBells { kick: bell()?, call: bell()? });
        }
        let inflight = match plan.backend {
            BackendKind::Own => {
                Some(inflight_table(plan, fds.next().context("the in-flight table is missing")?)?)
            }
            BackendKind::Foreign => None,
        };
        let vhost = VhostDevice::new(
            Plan {
                queues: plan.queues,
                queue_size: plan.queue_size,
                device: device_type(plan.kind),
                patience: Patience::default(),
            },
            Arc::clone(&around.vm),
            around.ram.clone(),
            bells,
            inflight,
            Arc::clone(&around.attention),
        )?;
        Ok(Self { index, vhost, is_known: false })
    }

    /// What is plugged into the PCI host.
    pub fn function(&self) -> Arc<VirtioFunction> {
        self.vhost.function()
    }

    /// The guest can be made to see it.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Nothing touches guest memory on its behalf.
    pub fn is_at_rest(&self) -> bool {
        self.vhost.is_at_rest()
    }

    /// When [`Device::advance`] is due although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        self.vhost.deadline()
    }

    /// The sockets to be watched, as long as they are open.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.vhost.sockets()
    }

    /// A fresh backend; the one before is dead and reaped.
    pub fn connect(&mut self, fds: Vec<OwnedFd>, now: Instant) -> anyhow::Result<()> {
        let mut fds = fds.into_iter();
        let socket = fds.next().context("a connection without a socket")?;
        let requests = fds.next().zip(fds.next());
        self.vhost.connect(Connection { socket, requests }, now);
        Ok(())
    }

    /// The backend is dead and reaped.
    pub fn disconnect(&mut self) {
        self.vhost.disconnect();
    }

    /// The backend will not come back soon.
    pub fn degrade(&mut self) {
        self.vhost.degrade();
    }

    /// Does what can be done now, and says what the supervisor has to know.
    pub fn advance(&mut self, now: Instant, tell: &mut Vec<CoreEvent>) {
        let device = self.index;
        while let Some(report) = self.vhost.advance(now) {
            tell.push(match report {
                Report::Up => {
                    self.is_known = true;
                    CoreEvent::DeviceUp { device }
                }
                Report::Fault(fault) => {
                    CoreEvent::DeviceFault { device, reason: fault.to_string() }
                }
                Report::NeedsReset => CoreEvent::NeedsReset { device },
            });
        }
    }
}

fn device_type(kind: DeviceKind) -> DeviceType {
    match kind {
        DeviceKind::Blk => DeviceType::BLK,
        DeviceKind::Console => DeviceType::CONSOLE,
        DeviceKind::Rng => DeviceType::RNG,
    }
}

fn inflight_table(plan: &DevicePlan, fd: OwnedFd) -> anyhow::Result<InflightTable> {
    let len = inflight::table_size(plan.queues, plan.queue_size);
    verify_sealed(fd.as_fd(), len).with_context(|| format!("in-flight table of {}", plan.id))?;
    Ok(InflightTable { fd: Arc::new(fd), len })
}
