//! A device as core holds it: the function that the guest sees, and the frontend behind it.
//!
//! The one place where a driver's demands become calls of the frontend, and the frontend's events become
//! what the driver sees.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use bulkhead_hypervisor::{EngineError, Vm};
use bulkhead_memory::GuestRange;
use bulkhead_virtio_transport::{
    Activation, Attention, Demand, QueueBells, TransportError, VirtioFunction, VirtioPlan,
};

use crate::event::{Event, Loss};
use crate::fault::Fault;
use crate::frontend::{Connection, Frontend};
use crate::plan::{InflightTable, Plan, SharedRam};

/// What the operator is to be told of a device.
#[derive(Debug)]
pub enum Report {
    /// A backend serves: it has shaken hands and, if the driver is running, taken over the queues. Once
    /// for each connection.
    Up,
    /// The backend broke the protocol, kept silent or hung up. The connection is closed.
    Fault(Fault),
    /// Requests were lost with the backend, and the driver was told that it must reset the device.
    NeedsReset,
}

/// Whether a connection has been reported to be up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announcement {
    Due,
    Made,
}

/// A device.
pub struct VhostDevice {
    function: Arc<VirtioFunction>,
    frontend: Frontend,
    vm: Arc<dyn Vm>,
    /// The used rings that the engine watches.
    watched: Vec<GuestRange>,
    /// Backends are to log what they write.
    wants_log: bool,
    announcement: Announcement,
    /// NEEDS_RESET has been raised and not been reported.
    is_ruined: bool,
}

impl VhostDevice {
    /// A device without backend. `inflight` is given for backends of our own; `attention` must make the
    /// event loop call [`VhostDevice::advance`].
    pub fn new(
        plan: Plan,
        vm: Arc<dyn Vm>,
        ram: SharedRam,
        bells: Vec<QueueBells>,
        inflight: Option<InflightTable>,
        attention: Attention,
    ) -> Result<Self, TransportError> {
        let Plan { device, queues, queue_size, .. } = plan;
        let shape = VirtioPlan { device, queues, queue_size };
        let memory = ram.memory.clone();
        let wants_log = ram.written.is_some();
        let function =
            VirtioFunction::new(shape, Arc::clone(&vm), memory, bells.clone(), attention)?;
        let frontend = Frontend::new(plan, ram, bells, inflight);
        Ok(Self {
            function,
            frontend,
            vm,
            watched: Vec::new(),
            wants_log,
            announcement: Announcement::Made,
            is_ruined: false,
        })
    }

    /// The function, to be plugged into the PCI host.
    pub fn function(&self) -> Arc<VirtioFunction> {
        Arc::clone(&self.function)
    }

    /// A backend is there; see [`Frontend::connect`].
    pub fn connect(&mut self, connection: Connection, now: Instant) {
        self.frontend.connect(connection, now);
        self.announcement = Announcement::Due;
    }

    /// The backend is dead and reaped; see [`Frontend::disconnect`].
    pub fn disconnect(&mut self) {
        self.frontend.disconnect();
    }

    /// No backend is to be expected soon: tells a running driver by DEVICE_NEEDS_RESET. Should one come
    /// after all, it resumes what can be resumed.
    pub fn degrade(&mut self) {
        self.is_ruined |= self.function.needs_reset();
    }

    /// Whether nothing runs on the device's behalf: the driver has not started it, or its reset is
    /// complete. A machine may boot again only when this is so for all devices.
    pub fn is_at_rest(&self) -> bool {
        !self.function.is_live()
    }

    /// When to call [`VhostDevice::advance`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.frontend.deadline()
    }

    /// The sockets to watch for reading: those of the newest connection, until it is lost. They are
    /// closed (and so no longer watched) when it is.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.frontend.sockets()
    }

    /// Does what can be done now: to be called until it has nothing to report, whenever a socket has
    /// news, the attention was rung, the deadline has passed or another method was called.
    pub fn advance(&mut self, now: Instant) -> Option<Report> {
        match self.function.take_demand() {
            Some(Demand::Run(activation)) => match self.watch(&activation) {
                Ok(()) => self.frontend.start(activation, now),
                // The engine is gone, and the guest with it.
                Err(_) => self.degrade(),
            },
            Some(Demand::Stop) => self.frontend.stop(now),
            None => {}
        }
        loop {
            if std::mem::take(&mut self.is_ruined) {
                return Some(Report::NeedsReset);
            }
            let event = self.frontend.advance(now)?;
            if let Some(report) = self.hear(event) {
                return Some(report);
            }
        }
    }

    fn hear(&mut self, event: Event) -> Option<Report> {
        match event {
            Event::Up(offer) => {
                if self.wants_log && !self.frontend.logs_writes() {
                    let _ = self.vm.expect_unlogged_writes();
                }
                self.function.offer(offer.features, &offer.config);
                if self.is_at_rest() { self.announce() } else { None }
            }
            Event::Serving => self.announce(),
            Event::Stopped => {
                for ring in self.watched.drain(..) {
                    let _ = self.vm.unwatch_ring(ring);
                }
                self.function.stopped();
                if self.frontend.is_connected() { self.announce() } else { None }
            }
            Event::ConfigChanged(config) => {
                self.function.config_changed(&config);
                None
            }
            Event::Lost(Loss { fault, needs_reset }) => {
                if needs_reset {
                    self.degrade();
                }
                fault.map(Report::Fault)
            }
        }
    }

    /// Before a backend may write to guest memory.
    fn watch(&mut self, activation: &Activation) -> Result<(), EngineError> {
        for (_, rings) in activation.enabled().filter(|_| self.wants_log) {
            let used = GuestRange::new(rings.used, 6 + 8 * u64::from(rings.size));
            self.vm.watch_ring(used)?;
            self.watched.push(used);
        }
        Ok(())
    }

    fn announce(&mut self) -> Option<Report> {
        let before = std::mem::replace(&mut self.announcement, Announcement::Made);
        (before == Announcement::Due).then_some(Report::Up)
    }
}
