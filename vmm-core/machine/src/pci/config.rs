//! Configuration space: 256 bytes, of which the guest may change some.
//!
//! A function builds its space once (identity, BARs, capabilities) and then only the guest writes to
//! it, through a mask. The host reads from it where the BARs are. Source: PCI Local Bus 3.0, chapter 6.
//!
//! Absent on purpose: I/O and 32-bit BARs, expansion ROMs, INTx (the pin register stays 0), extended
//! capabilities (offsets from 256 read as zero, which says that there are none).

use super::msix::MsixPlacement;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR_FIRST: usize = 0x10;
const CAPABILITY_POINTER: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const CAPABILITY_FIRST: usize = 0x40;

/// Bits of the command register that a driver may change: memory decoding, bus mastering, and INTx
/// disable, which must stick although there is nothing to disable.
const COMMAND_WRITABLE: u16 = 1 << 1 | 1 << 2 | 1 << 10;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_BUS_MASTER: u16 = 1 << 2;
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// A memory BAR, 64 bits wide, not prefetchable: reads of registers have effects.
const BAR_MEMORY_64: u64 = 0b0100;

/// Capability number of MSI-X, and the bits of its control word that a driver may change.
const CAPABILITY_MSIX: u8 = 0x11;
const MSIX_CONTROL_WRITABLE: u16 = 1 << 15 | 1 << 14;

/// The three bytes that say what kind of function this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassCode {
    /// Base class.
    pub class: u8,
    /// Subclass.
    pub subclass: u8,
    /// Programming interface.
    pub interface: u8,
}

/// Who a function says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor number.
    pub vendor: u16,
    /// Device number.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// What kind of function.
    pub class: ClassCode,
    /// Subsystem vendor number.
    pub subsystem_vendor: u16,
    /// Subsystem number.
    pub subsystem: u16,
}

/// One of the three places for a 64-bit BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BarIndex {
    /// Registers 0 and 1.
    Zero = 0,
    /// Registers 2 and 3.
    Two = 2,
    /// Registers 4 and 5.
    Four = 4,
}

impl BarIndex {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Zero, Self::Two, Self::Four];

    /// The number that capabilities name it by.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its place among [`BarIndex::ALL`].
    pub(super) fn ordinal(self) -> usize {
        self as usize / 2
    }

    fn offset(self) -> usize {
        BAR_FIRST + 4 * self as usize
    }
}

/// A window of a function's registers in guest-physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarSpec {
    /// Which one.
    pub index: BarIndex,
    /// Bytes: a power of two, at least 4096 so that no two functions share a page.
    pub size: u64,
}

/// The function's own author asked for something impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The capabilities do not fit into 256 bytes.
    #[error("bug: no room for a capability of {0} bytes")]
    NoRoom(usize),
    /// A BAR's size is not a power of two from 4096.
    #[error("bug: a BAR cannot have {0:#x} bytes")]
    BadBarSize(u64),
}

/// A function's configuration space.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: [u8; 256],
    writable: [u8; 256],
    power_on: [u8; 256],
    bar_sizes: [Option<u64>; 3],
    /// Where the pointer to the next capability has to be written.
    last_link: usize,
    next_capability: usize,
    msix: Option<usize>,
}

impl ConfigSpace {
    /// A space with nothing but an identity.
    pub fn new(identity: Identity) -> Self {
        let mut space = Self {
            bytes: [0; 256],
            writable: [0; 256],
            power_on: [0; 256],
            bar_sizes: [None; 3],
            last_link: CAPABILITY_POINTER,
            next_capability: CAPABILITY_FIRST,
            msix: None,
        };
        space.set(0x00, &identity.vendor.to_le_bytes());
        space.set(0x02, &identity.device.to_le_bytes());
        let ClassCode { class, subclass, interface } = identity.class;
        space.set(0x08, &[identity.revision, interface, subclass, class]);
        space.set(0x2c, &identity.subsystem_vendor.to_le_bytes());
        space.set(0x2e, &identity.subsystem.to_le_bytes());
        space.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        space.allow(INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Adds a BAR.
    pub fn add_bar(&mut self, bar: BarSpec) -> Result<(), ConfigError> {
        if !bar.size.is_power_of_two() || bar.size < 4096 {
            return Err(ConfigError::BadBarSize(bar.size));
        }
        self.bar_sizes[bar.index.ordinal()] = Some(bar.size);
        self.set(bar.index.offset(), &BAR_MEMORY_64.to_le_bytes());
        self.allow(bar.index.offset(), &(!(bar.size - 1)).to_le_bytes());
        Ok(())
    }

    /// Adds a capability: its number, then `body` after the link byte. Returns where it begins.
    pub fn add_capability(&mut self, number: u8, body: &[u8]) -> Result<u8, ConfigError> {
        let at = self.next_capability;
        let end = at + 2 + body.len();
        let start = u8::try_from(at).map_err(|_| ConfigError::NoRoom(body.len()))?;
        if end > 256 {
            return Err(ConfigError::NoRoom(body.len()));
        }
        self.set(at, &[number, 0]);
        self.set(at + 2, body);
        self.set(self.last_link, &[start]);
        let status = self.word(STATUS) | STATUS_CAPABILITIES;
        self.set(STATUS, &status.to_le_bytes());
        self.last_link = at + 1;
        self.next_capability = end.next_multiple_of(4);
        Ok(start)
    }

    /// Adds the MSI-X capability (PCI 3.0, 6.8.2).
    pub fn add_msix(&mut self, place: MsixPlacement) -> Result<u8, ConfigError> {
        let mut body = [0; 10];
        body[0..2].copy_from_slice(&(place.vectors.max(1) - 1).to_le_bytes());
        let table = place.table_offset | u32::from(place.bar.number());
        body[2..6].copy_from_slice(&table.to_le_bytes());
        let pending = place.pending_offset | u32::from(place.bar.number());
        body[6..10].copy_from_slice(&pending.to_le_bytes());
        let at = self.add_capability(CAPABILITY_MSIX, &body)?;
        let control = usize::from(at) + 2;
        self.allow(control, &MSIX_CONTROL_WRITABLE.to_le_bytes());
        self.msix = Some(control);
        Ok(at)
    }

    /// Lets the guest change the bits of `mask`, from `offset`.
    pub fn allow(&mut self, offset: usize, mask: &[u8]) {
        for (byte, bits) in self.writable.iter_mut().skip(offset).zip(mask) {
            *byte |= bits;
        }
    }

    /// The guest's read.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = self.bytes.get(usize::from(offset) + index).copied().unwrap_or(0);
        }
    }

    /// The guest's write.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        let places = self.bytes.iter_mut().zip(&self.writable).skip(usize::from(offset));
        for ((byte, mask), new) in places.zip(data) {
            *byte = (*byte & !mask) | (new & mask);
        }
    }

    /// Where a BAR answers now: `None` if decoding is off, or the address is null or runs past the end
    /// of all addresses.
    pub fn decoded(&self, bar: BarIndex) -> Option<u64> {
        let size = self.bar_size(bar)?;
        let address = self.long(bar.offset()) & !(size - 1);
        let decoding = self.word(COMMAND) & COMMAND_MEMORY != 0;
        (decoding && address != 0 && address.checked_add(size - 1).is_some()).then_some(address)
    }

    /// A BAR's size, if the function has it.
    pub fn bar_size(&self, bar: BarIndex) -> Option<u64> {
        self.bar_sizes[bar.ordinal()]
    }

    /// Whether the driver lets the function reach memory and send interrupts.
    pub fn is_bus_master(&self) -> bool {
        self.word(COMMAND) & COMMAND_BUS_MASTER != 0
    }

    /// The MSI-X control word, if the function has the capability.
    pub fn msix_control(&self) -> Option<u16> {
        self.msix.map(|control| self.word(control))
    }

    /// Puts a BAR where firmware would, now and after each reset. Decoding stays off until a driver
    /// wants it.
    pub(super) fn place_bar(&mut self, bar: BarIndex, address: u64) {
        self.set(bar.offset(), &(address | BAR_MEMORY_64).to_le_bytes());
    }

    /// As at power-on.
    pub fn reset(&mut self) {
        self.bytes = self.power_on;
    }

    /// Writes what the guest will find at power-on.
    fn set(&mut self, offset: usize, data: &[u8]) {
        for (index, byte) in data.iter().enumerate() {
            self.bytes[offset + index] = *byte;
            self.power_on[offset + index] = *byte;
        }
    }

    fn word(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.bytes[offset], self.bytes[offset + 1]])
    }

    fn long(&self, offset: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|index| self.bytes[offset + index]))
    }
}

#[cfg(test)]
mod tests;
