//! The PCI function: guest accesses on one side, the event loop on the other.
//!
//! Locks are taken in one order: configuration space, registers, interrupt table. The attention is
//! called with none of them held.

use std::sync::{Arc, Mutex};

use bulkhead_hypervisor::{EngineError, Vm};
use bulkhead_machine::pci::config::ConfigError;
use bulkhead_machine::pci::{BarIndex, ConfigSpace, Identity, MsixTable, PciDevice};
use bulkhead_memory::GuestMemory;

use crate::access::read_image;
use crate::activation::Demand;
use crate::capabilities::{self, BAR, Part, part};
use crate::configuration;
use crate::device_type::DeviceType;
use crate::hold::hold;
use crate::notify::Notify;
use crate::queue::QueueBells;
use crate::registers::{Effect, Registers};
use crate::window::{Target, covers};

/// PCI vendor of all virtio devices; the device number is this plus the device type (4.1.2).
const VENDOR: u16 = 0x1af4;
const DEVICE_BASE: u16 = 0x1040;
/// Subsystem number of devices without one of their own; at least 0x40, so that nobody takes the
/// function for a transitional one.
const SUBSYSTEM: u16 = 0x1100;

/// Called by a vCPU's thread when [`VirtioFunction::take_demand`] has something; rings the event loop's
/// doorbell. Must not wait.
pub type Attention = Arc<dyn Fn() + Send + Sync>;

/// The device as planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtioPlan {
    /// What it is.
    pub device: DeviceType,
    /// Queues, 1 to 256.
    pub queues: u16,
    /// Greatest size of a queue, a power of two.
    pub queue_size: u16,
}

/// Why a function could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The plan is senseless.
    #[error(
        "bug: a virtio device cannot have {queues} queues of size {queue_size} with {bells} pairs of doorbells"
    )]
    Plan {
        /// Queues.
        queues: u16,
        /// Greatest size.
        queue_size: u16,
        /// Pairs of doorbells.
        bells: usize,
    },
    /// The host has no interrupt numbers left.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The configuration space has no room.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A virtio device on the PCI bus.
pub struct VirtioFunction {
    config: Mutex<ConfigSpace>,
    /// Where the configuration access window's capability begins.
    window: u8,
    registers: Mutex<Registers>,
    msix: MsixTable,
    notify: Notify,
    bells: Vec<QueueBells>,
    attention: Attention,
}

impl VirtioFunction {
    /// A device that offers nothing yet.
    pub fn new(
        plan: VirtioPlan,
        vm: Arc<dyn Vm>,
        memory: GuestMemory,
        bells: Vec<QueueBells>,
        attention: Attention,
    ) -> Result<Arc<Self>, TransportError> {
        let VirtioPlan { device, queues, queue_size } = plan;
        let is_possible = (1..=256).contains(&queues)
            && queue_size.is_power_of_two()
            && bells.len() == usize::from(queues)
            && device.config.len <= 256;
        if !is_possible {
            return Err(TransportError::Plan { queues, queue_size, bells: bells.len() });
        }
        let mut config = ConfigSpace::new(Identity {
            vendor: VENDOR,
            device: DEVICE_BASE + device.id,
            revision: 1,
            class: device.class,
            subsystem_vendor: VENDOR,
            subsystem: SUBSYSTEM,
        });
        let window = capabilities::add(&mut config, queues, device.config.len)?;
        let kicks = bells.iter().map(|bells| Arc::clone(&bells.kick)).collect();
        Ok(Arc::new(Self {
            config: Mutex::new(config),
            window,
            registers: Mutex::new(Registers::new(memory, queues, queue_size, device.config.len)),
            msix: MsixTable::new(Arc::clone(&vm), queues + 1)?,
            notify: Notify::new(vm, kicks),
            bells,
            attention,
        }))
    }

    /// A backend has shaken hands: what the driver is offered from now on. To be called before the guest
    /// runs; features must not change later.
    pub fn offer(&self, features: u64, config: &[u8]) {
        hold(&self.registers).features.offered = features;
        self.config_changed(config);
    }

    /// What the driver wants, if that has changed since the last call.
    pub fn take_demand(&self) -> Option<Demand> {
        hold(&self.registers).demand.take()
    }

    /// The backend runs no queue any more and has let go of all requests: completes a reset.
    pub fn stopped(&self) {
        self.change(Registers::stopped);
    }

    /// Whether the driver has (or had, until its reset is complete) a live device.
    pub fn is_live(&self) -> bool {
        let status = hold(&self.registers).status;
        status.is_live() || status.is_leaving()
    }

    /// The backend's configuration space has changed.
    pub fn config_changed(&self, config: &[u8]) {
        let vector = hold(&self.registers).change_config(config);
        self.signal(vector);
    }

    /// The backend is gone with requests in flight: raises DEVICE_NEEDS_RESET. Whether that was news.
    pub fn needs_reset(&self) -> bool {
        let vector = hold(&self.registers).need_reset();
        self.signal(vector);
        vector.is_some()
    }

    fn signal(&self, vector: Option<u16>) {
        if let Some(vector) = vector {
            self.msix.signal(vector);
        }
    }

    /// Changes registers and does what follows from it. Interrupts are moved under the registers' lock:
    /// two vCPUs that move one at the same time must not leave it connected twice.
    fn change(&self, change: impl FnOnce(&mut Registers) -> Option<Effect>) {
        let mut registers = hold(&self.registers);
        match change(&mut registers) {
            None => {}
            Some(Effect::MoveCall { queue, from, to }) => {
                if let Some(bells) = self.bells.get(usize::from(queue)) {
                    self.msix.disconnect(from, &bells.call);
                    self.msix.connect(to, &bells.call);
                }
            }
            Some(Effect::Reset(vectors)) => {
                for (vector, bells) in vectors.iter().zip(&self.bells) {
                    self.msix.disconnect(*vector, &bells.call);
                }
            }
            Some(Effect::Demand) => {
                drop(registers);
                (self.attention)();
            }
        }
    }

    /// What the window's registers ask for, if they ask for anything.
    fn window_target(&self) -> Option<Target> {
        let mut capability = [0; 20];
        hold(&self.config).read(self.window.into(), &mut capability);
        Target::decode(&capability, BAR.number())
    }
}

impl PciDevice for VirtioFunction {
    fn config(&self) -> &Mutex<ConfigSpace> {
        &self.config
    }

    fn msix(&self) -> Option<&MsixTable> {
        Some(&self.msix)
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) {
        hold(&self.config).read(offset, data);
        let Some(covered) = covers(self.window, offset, data.len()) else { return };
        let Some(target) = self.window_target() else { return };
        let mut value = [0xff; 4];
        self.bar_read(BAR, target.offset, &mut value[..target.len]);
        let first = usize::from(self.window) + 16 + covered.start - usize::from(offset);
        for (to, from) in data.iter_mut().skip(first).zip(&value[covered]) {
            *to = *from;
        }
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        hold(&self.config).write(offset, data);
        if covers(self.window, offset, data.len()).is_none() {
            return;
        }
        if let Some(target) = self.window_target() {
            let mut value = [0; 4];
            hold(&self.config).read(u16::from(self.window) + 16, &mut value);
            self.bar_write(BAR, target.offset, &value[..target.len]);
        }
    }

    fn bar_read(&self, _bar: BarIndex, offset: u64, data: &mut [u8]) {
        match part(offset) {
            Some((Part::Common, at)) => configuration::read(&hold(&self.registers), at, data),
            Some((Part::Isr, 0)) => {
                let isr = std::mem::take(&mut hold(&self.registers).isr);
                read_image(&[isr], 0, data);
            }
            Some((Part::Device, at)) => read_image(&hold(&self.registers).config, at, data),
            Some((Part::Table, at)) => self.msix.table_read(at, data),
            Some((Part::Pending, at)) => self.msix.pending_read(at, data),
            Some((Part::Isr | Part::Notify, _)) | None => {}
        }
    }

    fn bar_write(&self, _bar: BarIndex, offset: u64, data: &[u8]) {
        match part(offset) {
            Some((Part::Common, at)) => {
                self.change(|registers| configuration::write(registers, at, data))
            }
            Some((Part::Notify, at)) => self.notify.write(at),
            Some((Part::Table, at)) => self.msix.table_write(at, data),
            Some((Part::Isr | Part::Device | Part::Pending, _)) | None => {}
        }
    }

    fn bar_moved(&self, _bar: BarIndex, address: Option<u64>) {
        self.notify.follow(address);
    }

    fn reset(&self) {
        self.change(Registers::machine_reset);
    }
}

#[cfg(test)]
mod tests;
