//! The FADT: power management hardware at fixed ports (ACPI 6.5, 5.2.9).
//!
//! Not the hardware-reduced kind: there are PM1 blocks, a PM timer and general purpose events. The
//! buttons are devices of the DSDT, not fixed ones: their events go through general purpose events,
//! as hotplug will.

use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use bulkhead_machine::layout;

use super::{OEM, REVISION, TABLE};

/// Boot architecture: there are legacy devices (a serial port); no VGA; no ASPM. The bit for a
/// keyboard controller stays clear, so guests do not look for one.
const BOOT_ARCHITECTURE: u16 = 1 | 1 << 2 | 1 << 4;

const FLAGS: [Flags; 7] = [
    // Caches behave, C1 works on all processors.
    Flags::Wbinvd,
    Flags::ProcC1,
    // Both buttons are control method devices.
    Flags::PwrButton,
    Flags::SlpButton,
    // The clock cannot wake the machine through fixed registers.
    Flags::FixRtc,
    // 32 bits of PM timer; the reset register works.
    Flags::TmrValExt,
    Flags::ResetRegSup,
];

/// The table.
pub(super) fn fadt(facs: u64, dsdt: u64) -> FADT {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION);
    // Both tables lie in the first MiB, so their addresses fit the old fields too.
    fadt.firmware_ctrl = (facs as u32).into();
    fadt.dsdt = (dsdt as u32).into();
    fadt.x_dsdt = dsdt.into();
    fadt.sci_int = u16::from(layout::SCI_PIN).into();
    fadt.pm1a_evt_blk = u32::from(layout::PM1_EVENT).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = u32::from(layout::PM1_CONTROL).into();
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_blk = u32::from(layout::PM_TIMER).into();
    fadt.pm_tmr_len = 4;
    fadt.gpe0_blk = u32::from(layout::GPE0).into();
    fadt.gpe0_blk_len = layout::GPE0_LEN;
    fadt.x_pm1a_evt_blk = ports(layout::PM1_EVENT, 32, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = ports(layout::PM1_CONTROL, 16, AccessSize::WordAccess);
    fadt.x_pm_tmr_blk = ports(layout::PM_TIMER, 32, AccessSize::DwordAccess);
    fadt.x_gpe0_blk = ports(layout::GPE0, layout::GPE0_LEN * 8, AccessSize::ByteAccess);
    // No C2, no C3: latencies above the limits say so.
    fadt.p_lvl2_lat = 0x65.into();
    fadt.p_lvl3_lat = 0x3e9.into();
    fadt.century = layout::RTC_CENTURY;
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = ports(layout::RESET, 8, AccessSize::ByteAccess);
    fadt.reset_value = layout::RESET_VALUE;
    FLAGS.into_iter().fold(fadt, FADTBuilder::flag).finalize()
}

fn ports(first: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bits, 0, access, first.into())
}
