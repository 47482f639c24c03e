//! Where boot data lie in guest memory: all in the first MiB, which no kernel of ours occupies.
//!
//! | from | what |
//! | --- | --- |
//! | 0x0500 | segment descriptors |
//! | 0x6000 | PVH start info or multiboot information, memory map, module list |
//! | 0x7000 | zero page |
//! | 0x9000 | page tables: one page, one page, four pages |
//! | 0x20000 | command line |
//! | 0x9fc00 | end of conventional memory; the rest of the first MiB is reserved |
//! | 0xe0000 | ACPI tables, where a guest also looks for them by itself |

pub(crate) const DESCRIPTORS: u64 = 0x0500;
pub(crate) const START_INFO: u64 = 0x6000;
pub(crate) const START_INFO_MAP: u64 = 0x6100;
pub(crate) const START_INFO_MODULES: u64 = 0x6800;
pub(crate) const START_INFO_STRINGS: u64 = 0x6900;
pub(crate) const ZERO_PAGE: u64 = 0x7000;
pub(crate) const PAGE_TABLES: u64 = 0x9000;
pub(crate) const STACK_TOP: u64 = 0x1_8000;
pub(crate) const COMMAND_LINE: u64 = 0x2_0000;
pub(crate) const COMMAND_LINE_ROOM: usize = 0x1_0000;
pub(crate) const CONVENTIONAL_END: u64 = 0x9_fc00;
pub(crate) const ACPI: u64 = 0xe_0000;
pub(crate) const ACPI_ROOM: u64 = 0x2_0000;

/// Where kernels may begin.
pub(crate) const HIGH_MEMORY: u64 = 0x10_0000;

/// Boot data, and at least something above them.
pub(crate) const LEAST_RAM: u64 = 2 << 20;
