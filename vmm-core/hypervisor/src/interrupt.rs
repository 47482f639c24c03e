//! Interrupt numbers and messages.

/// A global system interrupt: an index into the engine's routing table.
///
/// 0 to 23 are the pins of the IOAPIC, whose model sits in `machine` and mirrors its redirection
/// table into the routes; devices with MSI-X take numbers from 24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gsi(pub u32);

/// Pins of the IOAPIC, and so the first number that a device may have.
pub const IOAPIC_PINS: u8 = 24;

/// A message-signalled interrupt as the guest wrote it (Intel SDM volume 3, 11.11).
///
/// Not checked: the local APICs decide what they accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Msi {
    /// The 64-bit message address.
    pub address: u64,
    /// The message data.
    pub data: u32,
}
