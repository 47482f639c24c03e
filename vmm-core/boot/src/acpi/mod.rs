//! ACPI tables: what a guest is told about a machine that it could not find out by itself.
//!
//! All tables lie one behind the other from [`ACPI`], where a guest also looks for the first of them:
//!
//! ```text
//!  RSDP ──► XSDT ──► FADT ──► FACS, DSDT (devices, buttons)
//!             ├────► MADT (processors, IOAPIC)
//!             └────► MCFG (PCI configuration space)
//! ```
//!
//! Absent on purpose: SRAT and the like (they come with NUMA), HPET, any table about a PIC or PIT.

mod devices;
mod fixed;
mod interrupts;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use bulkhead_machine::layout;
use bulkhead_memory::{GuestMemory, GuestRange, RamLayout};

use crate::error::BootError;
use crate::places::{ACPI, ACPI_ROOM};

const OEM: [u8; 6] = *b"BULKHD";
const TABLE: [u8; 8] = *b"BULKHEAD";
const REVISION: u32 = 1;

/// The FACS has the strictest alignment of all.
const ALIGN: u64 = 64;

/// Writes all tables.
pub(crate) fn write(memory: &GuestMemory, layout: &RamLayout, cpus: u8) -> Result<(), BootError> {
    let place = memory.check(GuestRange::new(ACPI, ACPI_ROOM))?;
    Ok(place.copy_out(&tables(layout, cpus))?)
}

/// The bytes from [`ACPI`] on.
fn tables(layout: &RamLayout, cpus: u8) -> Vec<u8> {
    let mut tables = Tables { bytes: vec![0; Rsdp::len().next_multiple_of(ALIGN as usize)] };
    let facs = tables.add(&FACS::new());
    let dsdt = tables.add(&devices::dsdt(layout, cpus));
    let fadt = tables.add(&fixed::fadt(facs, dsdt));
    let madt = tables.add(&interrupts::madt(cpus));
    let mut windows = MCFG::new(OEM, TABLE, REVISION);
    windows.add_ecam(layout::ECAM, 0, 0, 0);
    let mcfg = tables.add(&windows);
    let mut root = XSDT::new(OEM, TABLE, REVISION);
    for table in [fadt, madt, mcfg] {
        root.add_entry(table);
    }
    let xsdt = tables.add(&root);
    let rsdp = bytes_of(&Rsdp::new(OEM, xsdt));
    tables.bytes[..rsdp.len()].copy_from_slice(&rsdp);
    tables.bytes
}

/// Tables one behind the other.
struct Tables {
    bytes: Vec<u8>,
}

impl Tables {
    /// Adds one and says where a guest finds it.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        let at = self.bytes.len();
        self.bytes.extend(bytes_of(table));
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN as usize), 0);
        ACPI + at as u64
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
