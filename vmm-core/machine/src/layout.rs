//! Where everything is: the one list of addresses, ports and interrupt pins.
//!
//! `boot` writes them into ACPI tables, `core` puts the devices there. RAM has its own layout in
//! `bulkhead_memory`: it leaves the last GiB below 4 GiB to what stands here.

/// Window for BARs below 4 GiB: where BARs are when the guest starts.
pub const PCI_LOW_WINDOW: u64 = 0xc000_0000;
/// Bytes of [`PCI_LOW_WINDOW`].
pub const PCI_LOW_WINDOW_LEN: u64 = 0x2000_0000;

/// Window for BARs above RAM, for guests that like to move them there; its start depends on RAM.
pub const PCI_HIGH_WINDOW_LEN: u64 = 16 << 30;

/// Start of the high window in a machine whose RAM above 4 GiB has `high_ram` bytes.
pub fn pci_high_window(high_ram: u64) -> u64 {
    const GIB: u64 = 1 << 30;
    bulkhead_memory::HIGH_RAM_START + high_ram.next_multiple_of(GIB)
}

/// PCI configuration space in memory; its length is [`crate::pci::host::ECAM_LEN`].
pub const ECAM: u64 = 0xe000_0000;

/// The IOAPIC's registers.
pub const IOAPIC: u64 = 0xfec0_0000;
/// Bytes that it claims.
pub const IOAPIC_LEN: u64 = 0x1000;
/// The local APICs' registers: the engine's, no device of ours.
pub const LOCAL_APIC: u64 = 0xfee0_0000;

/// First serial port.
pub const COM1: u16 = 0x3f8;
/// Its registers.
pub const COM1_LEN: u16 = 8;
/// Its pin.
pub const COM1_PIN: u8 = 4;

/// Index and data port of the clock's memory.
pub const RTC: u16 = 0x70;
/// Where the clock's memory holds the century.
pub const RTC_CENTURY: u8 = 0x32;

/// Command port of the keyboard controller.
pub const KEYBOARD_COMMAND: u16 = 0x64;

/// PCI configuration mechanism #1: address port. The next port is [`RESET`].
pub const PCI_CONFIG_ADDRESS: u16 = 0xcf8;
/// PCI configuration mechanism #1: data ports, four of them.
pub const PCI_CONFIG_DATA: u16 = 0xcfc;

/// Reset control register, as PC chipsets have it; also ACPI's reset register.
pub const RESET: u16 = 0xcf9;
/// What is written there to reset the machine.
pub const RESET_VALUE: u8 = 6;

/// ACPI PM1a event block: status and enable, two bytes each.
pub const PM1_EVENT: u16 = 0x600;
/// ACPI PM1a control block, two bytes.
pub const PM1_CONTROL: u16 = 0x604;
/// ACPI power management timer, four bytes.
pub const PM_TIMER: u16 = 0x608;
/// ACPI general purpose events: status and enable, two bytes each.
pub const GPE0: u16 = 0x610;
/// Bytes of [`GPE0`].
pub const GPE0_LEN: u8 = 4;
/// The pin of the system control interrupt, level-triggered.
pub const SCI_PIN: u8 = 9;
/// What a guest writes as its sleep type to power the machine off.
pub const SLEEP_TYPE_OFF: u8 = 5;

/// General purpose event of the power button.
pub const GPE_POWER_BUTTON: u8 = 0;
/// General purpose event of the sleep button.
pub const GPE_SLEEP_BUTTON: u8 = 1;
