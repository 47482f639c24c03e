//! The MADT: processors and the IOAPIC (ACPI 6.5, 5.2.12).
//!
//! The flag that says "there is a PC/AT-compatible PIC too" is clear: there is none, and without the
//! flag a guest does not test it for seconds.

use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::{Aml, AmlSink};
use bulkhead_machine::layout;
use zerocopy::{Immutable, IntoBytes};

use super::{OEM, REVISION, TABLE};

/// An ISA interrupt whose polarity or trigger mode is not ISA's.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, packed)]
struct SourceOverride {
    kind: u8,
    len: u8,
    bus: u8,
    source: u8,
    interrupt: [u8; 4],
    flags: [u8; 2],
}

/// Active high, level-triggered.
const HIGH_LEVEL: u16 = 0b1101;

impl SourceOverride {
    /// The system control interrupt.
    fn sci() -> Self {
        let interrupt = u32::from(layout::SCI_PIN).to_le_bytes();
        let flags = HIGH_LEVEL.to_le_bytes();
        Self { kind: 2, len: 10, bus: 0, source: layout::SCI_PIN, interrupt, flags }
    }
}

impl Aml for SourceOverride {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.as_bytes());
    }
}

/// The table for processors 0 to `cpus` − 1, whose APIC ids are their numbers.
pub(super) fn madt(cpus: u8) -> MADT {
    let local = LocalInterruptController::Address(layout::LOCAL_APIC as u32);
    let mut madt = MADT::new(OEM, TABLE, REVISION, local);
    for cpu in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC as u32, 0));
    madt.add_structure(SourceOverride::sci());
    madt
}
