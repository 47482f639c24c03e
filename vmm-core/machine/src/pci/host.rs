//! The PCIe host: finds the function that a configuration access means, and keeps BARs on the bus.
//!
//! Two ways lead to configuration space: the memory window that ACPI's MCFG table names ([`Ecam`]) and
//! ports 0xcf8/0xcfc ([`ConfigPorts`]), which early boot code uses. Both end in [`PciHost`].
//!
//! Locks are taken in one order: slot, then the function's own, then the bus. The slot's lock is held
//! over a configuration access, so that two vCPUs cannot move one BAR at the same time.

use std::sync::{Arc, Mutex};

use super::config::BarIndex;
use super::device::PciDevice;
use crate::bus::{Bus, BusDevice, BusRange};
use crate::hold::hold;

/// Slots on the one bus.
pub const SLOTS: u8 = 32;

/// Bytes of configuration space that the memory window gives each function.
const ECAM_FUNCTION: u64 = 4096;
/// Functions that the window gives each slot.
const ECAM_SLOT: u64 = 8 * ECAM_FUNCTION;
/// Length of the window: one bus.
pub const ECAM_LEN: u64 = SLOTS as u64 * ECAM_SLOT;

/// The number of a slot, 0 to 31. Slot 0 holds the host bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u8);

/// Why a function could not be plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlugError {
    /// All slots are taken.
    #[error("all {SLOTS} PCI slots are taken")]
    NoSlot,
    /// The window for BARs is full.
    #[error("no room for a BAR of {0:#x} bytes")]
    NoRoom(u64),
}

struct Plugged {
    device: Arc<dyn PciDevice>,
    /// Where each BAR is on the bus now.
    claimed: [Option<BusRange>; 3],
}

/// The host and its bus.
pub struct PciHost {
    mmio: Arc<Bus>,
    slots: [Mutex<Option<Plugged>>; SLOTS as usize],
    /// Where the next BAR goes: rest of the window.
    window: Mutex<BusRange>,
}

impl PciHost {
    /// A host without functions. BARs go to `window` of the bus `mmio` until the guest moves them.
    pub fn new(mmio: Arc<Bus>, window: BusRange) -> Arc<Self> {
        let slots = std::array::from_fn(|_| Mutex::new(None));
        Arc::new(Self { mmio, slots, window: Mutex::new(window) })
    }

    /// Puts a function into the first free slot and its BARs into the window.
    pub fn plug(&self, device: Arc<dyn PciDevice>) -> Result<Slot, PlugError> {
        self.place_bars(&*device)?;
        for (number, slot) in (0..SLOTS).zip(&self.slots) {
            let mut slot = hold(slot);
            if slot.is_none() {
                *slot = Some(Plugged { device, claimed: [None; 3] });
                return Ok(Slot(number));
            }
        }
        Err(PlugError::NoSlot)
    }

    fn place_bars(&self, device: &dyn PciDevice) -> Result<(), PlugError> {
        let mut config = hold(device.config());
        let mut window = hold(&self.window);
        for bar in BarIndex::ALL {
            let Some(size) = config.bar_size(bar) else { continue };
            let full = PlugError::NoRoom(size);
            let address = window.first().checked_next_multiple_of(size).ok_or(full)?;
            let end = address.checked_add(size).ok_or(full)?;
            let left = window.last().checked_sub(end).and_then(|left| left.checked_add(1));
            *window = left.and_then(|left| BusRange::new(end, left)).ok_or(full)?;
            config.place_bar(bar, address);
        }
        Ok(())
    }

    /// As at power-on: every function, with its BARs where they were first.
    pub fn reset(&self) {
        for slot in &self.slots {
            if let Some(plugged) = hold(slot).as_mut() {
                hold(plugged.device.config()).reset();
                if let Some(table) = plugged.device.msix() {
                    table.reset();
                }
                self.follow(plugged);
                plugged.device.reset();
            }
        }
    }

    /// A read of configuration space; what is not there reads as ones.
    fn config_read(&self, slot: u8, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        let Some(slot) = self.slots.get(usize::from(slot)) else { return };
        if let Some(plugged) = hold(slot).as_ref() {
            plugged.device.config_read(offset, data);
        }
    }

    fn config_write(&self, slot: u8, offset: u16, data: &[u8]) {
        let Some(slot) = self.slots.get(usize::from(slot)) else { return };
        if let Some(plugged) = hold(slot).as_mut() {
            plugged.device.config_write(offset, data);
            self.follow(plugged);
        }
    }

    /// Brings interrupts and bus claims in line with the configuration space.
    fn follow(&self, plugged: &mut Plugged) {
        let config = hold(plugged.device.config()).clone();
        if let (Some(table), Some(control)) = (plugged.device.msix(), config.msix_control()) {
            table.set_control(control);
        }
        for bar in BarIndex::ALL {
            let size = config.bar_size(bar).unwrap_or(0);
            let wanted = config.decoded(bar).and_then(|address| BusRange::new(address, size));
            let claimed = plugged.claimed[bar.ordinal()];
            if wanted != claimed {
                let now = self.move_bar(&plugged.device, bar, claimed, wanted);
                plugged.claimed[bar.ordinal()] = now;
                plugged.device.bar_moved(bar, now.map(BusRange::first));
            }
        }
    }

    /// Moves a BAR on the bus. A guest that puts it on top of another device loses it until it puts
    /// it elsewhere.
    fn move_bar(
        &self,
        device: &Arc<dyn PciDevice>,
        bar: BarIndex,
        from: Option<BusRange>,
        to: Option<BusRange>,
    ) -> Option<BusRange> {
        if let Some(range) = from {
            self.mmio.release(range);
        }
        let range = to?;
        let window = Arc::new(BarWindow { device: Arc::clone(device), bar });
        self.mmio.claim(range, window).ok().map(|()| range)
    }
}

/// A decoded BAR on the bus.
struct BarWindow {
    device: Arc<dyn PciDevice>,
    bar: BarIndex,
}

impl BusDevice for BarWindow {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.device.bar_read(self.bar, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.device.bar_write(self.bar, offset, data);
    }
}

/// The memory window onto configuration space (PCI Express 3.0, 7.2.2), [`ECAM_LEN`] bytes.
pub struct Ecam(pub Arc<PciHost>);

impl Ecam {
    /// Slot and offset; `None` for functions other than 0, which no slot has.
    fn decode(offset: u64) -> Option<(u8, u16)> {
        let within = offset % ECAM_SLOT;
        let slot = u8::try_from(offset / ECAM_SLOT).ok()?;
        (within < ECAM_FUNCTION).then_some((slot, within as u16))
    }
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some((slot, offset)) = Self::decode(offset) {
            self.0.config_read(slot, offset, data);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((slot, offset)) = Self::decode(offset) {
            self.0.config_write(slot, offset, data);
        }
    }
}

/// The address register of configuration mechanism #1 (PCI 3.0, 3.2.2.3.2), shared by its two ports.
#[derive(Default)]
pub struct ConfigPorts {
    address: Mutex<u32>,
}

/// The enable bit; without it the data port leads nowhere.
const ADDRESS_ENABLE: u32 = 1 << 31;
const ADDRESS_READABLE: u32 = ADDRESS_ENABLE | 0x00ff_fffc;

impl ConfigPorts {
    /// Slot and register; `None` for other buses and functions.
    fn target(&self) -> Option<(u8, u16)> {
        let address = *hold(&self.address);
        let (bus, slot) = (address >> 16 & 0xff, address >> 11 & 0x1f);
        let function = address >> 8 & 7;
        let there = address & ADDRESS_ENABLE != 0 && bus == 0 && function == 0;
        there.then_some((slot as u8, (address & 0xfc) as u16))
    }
}

/// Port 0xcf8. Only whole 32-bit accesses reach the register; port 0xcf9 is another device's.
pub struct ConfigAddress(pub Arc<ConfigPorts>);

impl BusDevice for ConfigAddress {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if offset == 0 && data.len() == 4 {
            data.copy_from_slice(&hold(&self.0.address).to_le_bytes());
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (0, Ok(bytes)) = (offset, <[u8; 4]>::try_from(data)) {
            *hold(&self.0.address) = u32::from_le_bytes(bytes) & ADDRESS_READABLE;
        }
    }
}

/// Ports 0xcfc to 0xcff.
pub struct ConfigData {
    /// What port 0xcf8 selected.
    pub ports: Arc<ConfigPorts>,
    /// Where it leads.
    pub host: Arc<PciHost>,
}

impl BusDevice for ConfigData {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some((slot, register)) = self.ports.target() {
            self.host.config_read(slot, register + (offset & 3) as u16, data);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((slot, register)) = self.ports.target() {
            self.host.config_write(slot, register + (offset & 3) as u16, data);
        }
    }
}

#[cfg(test)]
mod tests;
