//! PVH's start-info block (xen/include/public/arch-x86/hvm/start_info.h): what EBX points to.

use bulkhead_memory::{GuestMemory, GuestRange};
use linux_loader::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};

use crate::error::BootError;
use crate::memory_map::MapEntry;
use crate::places::{ACPI, COMMAND_LINE, START_INFO, START_INFO_MAP, START_INFO_MODULES};

/// The version that has a memory map.
const VERSION: u32 = 1;

/// Writes the block, the map and the module list.
pub(crate) fn write(
    memory: &GuestMemory,
    map: &[MapEntry],
    initrd: Option<GuestRange>,
) -> Result<(), BootError> {
    const MAP_ENTRY: usize = size_of::<hvm_memmap_table_entry>();
    let room = memory.check(GuestRange::new(START_INFO_MAP, (map.len() * MAP_ENTRY) as u64))?;
    for (index, entry) in map.iter().enumerate() {
        let line = hvm_memmap_table_entry {
            addr: entry.address,
            size: entry.len,
            type_: entry.what as u32,
            reserved: 0,
        };
        room.write_obj(index * MAP_ENTRY, line)?;
    }
    let module = initrd.map(|range| hvm_modlist_entry {
        paddr: range.addr,
        size: range.len,
        ..Default::default()
    });
    let modules =
        memory.check(GuestRange::new(START_INFO_MODULES, size_of::<hvm_modlist_entry>() as u64))?;
    modules.write_obj(0, module.unwrap_or_default())?;
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        flags: 0,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: if initrd.is_some() { START_INFO_MODULES } else { 0 },
        cmdline_paddr: COMMAND_LINE,
        rsdp_paddr: ACPI,
        memmap_paddr: START_INFO_MAP,
        memmap_entries: map.len() as u32,
        reserved: 0,
    };
    let block = memory.check(GuestRange::new(START_INFO, size_of::<hvm_start_info>() as u64))?;
    Ok(block.write_obj(0, info)?)
}
