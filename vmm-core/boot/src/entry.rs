//! The state in which the boot vCPU enters the kernel.
//!
//! Two entries: PVH's and multiboot's (32-bit protected mode, paging off, EBX → start info or
//! information, EAX tells multiboot kernels that it is) and Linux' 64-bit one (long mode, the first
//! 4 GiB mapped to themselves, RSI → zero page). Descriptors and page tables are
//! written into guest memory, because kernels reload segments before they have tables of their own.
//! Everything that is not said here stays as at power-on.

use bulkhead_hypervisor::x86_64::{VcpuState, kvm_segment};
use bulkhead_memory::{GuestMemory, GuestRange};

use crate::error::BootError;
use crate::multiboot::BOOTED;
use crate::places::{DESCRIPTORS, PAGE_TABLES, STACK_TOP, START_INFO, ZERO_PAGE};

const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
/// Bit 1 is always set; interrupts are off.
const FLAGS: u64 = 1 << 1;

const SELECTOR_CODE: u16 = 0x10;
const SELECTOR_DATA: u16 = 0x18;
const SELECTOR_TASK: u16 = 0x20;

const PAGE: u64 = 4096;
/// Present and writable; with bit 7 also: a large page.
const TABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7 | TABLE;
const LARGE_PAGE_LEN: u64 = 2 << 20;
const GIB: u64 = 1 << 30;

/// How the boot vCPU starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    mode: Mode,
    instruction: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pvh,
    Multiboot,
    Linux64,
}

/// Writes what a PVH entry needs.
pub(crate) fn prepare_pvh(memory: &GuestMemory, instruction: u64) -> Result<Entry, BootError> {
    let entry = Entry { mode: Mode::Pvh, instruction };
    entry.write_descriptors(memory)?;
    Ok(entry)
}

/// Writes what a multiboot entry needs.
pub(crate) fn prepare_multiboot(
    memory: &GuestMemory,
    instruction: u64,
) -> Result<Entry, BootError> {
    let entry = Entry { mode: Mode::Multiboot, instruction };
    entry.write_descriptors(memory)?;
    Ok(entry)
}

/// Writes what a 64-bit entry needs.
pub(crate) fn prepare_linux64(memory: &GuestMemory, instruction: u64) -> Result<Entry, BootError> {
    let entry = Entry { mode: Mode::Linux64, instruction };
    entry.write_descriptors(memory)?;
    write_page_tables(memory)?;
    Ok(entry)
}

impl Entry {
    /// The first instruction.
    pub fn instruction(&self) -> u64 {
        self.instruction
    }

    /// Changes a vCPU's power-on state into the one that the kernel expects.
    pub fn apply(&self, state: &mut VcpuState) {
        let sregs = &mut state.sregs;
        sregs.cs = self.code();
        let data = self.data();
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        sregs.tr = task();
        sregs.gdt.base = DESCRIPTORS;
        sregs.gdt.limit = 5 * 8 - 1;
        (sregs.idt.base, sregs.idt.limit) = (0, 0);
        sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE;
        state.regs.rip = self.instruction;
        state.regs.rflags = FLAGS;
        match self.mode {
            Mode::Pvh => state.regs.rbx = START_INFO,
            Mode::Multiboot => {
                state.regs.rax = BOOTED;
                state.regs.rbx = START_INFO;
            }
            Mode::Linux64 => {
                sregs.cr3 = PAGE_TABLES;
                sregs.cr4 |= CR4_PHYSICAL_ADDRESS_EXTENSION;
                sregs.cr0 |= CR0_PAGING;
                sregs.efer |= EFER_LONG_MODE;
                state.regs.rsi = ZERO_PAGE;
                state.regs.rsp = STACK_TOP;
            }
        }
    }

    fn code(&self) -> kvm_segment {
        let long = self.mode == Mode::Linux64;
        // Execute, read, accessed; in long mode the default operand size has to be off.
        flat(SELECTOR_CODE, 0xb, !long, long)
    }

    fn data(&self) -> kvm_segment {
        flat(SELECTOR_DATA, 0x3, true, false)
    }

    /// Null, null, code, data, task: the same that the registers hold.
    fn write_descriptors(&self, memory: &GuestMemory) -> Result<(), BootError> {
        let descriptors =
            [0, 0, descriptor(self.code()), descriptor(self.data()), descriptor(task())];
        let table = memory.check(GuestRange::new(DESCRIPTORS, 8 * descriptors.len() as u64))?;
        for (index, descriptor) in descriptors.into_iter().enumerate() {
            table.write_obj(8 * index, descriptor)?;
        }
        Ok(())
    }
}

/// A code or data segment over all 4 GiB.
fn flat(selector: u16, kind: u8, default_32: bool, long: bool) -> kvm_segment {
    kvm_segment {
        selector,
        type_: kind,
        limit: u32::MAX,
        g: 1,
        present: 1,
        s: 1,
        db: u8::from(default_32),
        l: u8::from(long),
        ..Default::default()
    }
}

/// A busy task state segment, which the processor insists on having.
fn task() -> kvm_segment {
    kvm_segment {
        selector: SELECTOR_TASK,
        type_: 0xb,
        limit: 0x67,
        present: 1,
        ..Default::default()
    }
}

/// The segment as eight bytes of a descriptor table (Intel SDM volume 3, 3.4.5).
fn descriptor(segment: kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
    let access = segment.type_ | segment.s << 4 | segment.dpl << 5 | segment.present << 7;
    let flags = segment.avl | segment.l << 1 | segment.db << 2 | segment.g << 3;
    let (low, high) = (limit & 0xffff, limit >> 16 & 0xf);
    low | u64::from(access) << 40 | high << 48 | u64::from(flags) << 52
}

/// Maps the first 4 GiB to themselves in large pages.
fn write_page_tables(memory: &GuestMemory) -> Result<(), BootError> {
    let tables = memory.check(GuestRange::new(PAGE_TABLES, 6 * PAGE))?;
    tables.zero()?;
    let (pointers, directories) = (PAGE_TABLES + PAGE, PAGE_TABLES + 2 * PAGE);
    tables.write_obj(0, pointers | TABLE)?;
    for gib in 0..4 {
        tables.write_obj((PAGE + 8 * gib) as usize, (directories + gib * PAGE) | TABLE)?;
        for page in 0..GIB / LARGE_PAGE_LEN {
            let address = gib * GIB + page * LARGE_PAGE_LEN;
            tables.write_obj(((2 + gib) * PAGE + 8 * page) as usize, address | LARGE_PAGE)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
