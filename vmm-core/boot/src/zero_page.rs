//! Linux' zero page (`struct boot_params`): what RSI points to at the 64-bit entry.

use bulkhead_memory::{GuestMemory, GuestRange};
use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};

use crate::error::BootError;
use crate::memory_map::MapEntry;
use crate::places::{ACPI, COMMAND_LINE, ZERO_PAGE};

/// `type_of_loader`: one without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;

/// Writes the page: the file's own header, completed.
pub(crate) fn write(
    memory: &GuestMemory,
    map: &[MapEntry],
    initrd: Option<GuestRange>,
    header: &setup_header,
) -> Result<(), BootError> {
    let mut page = boot_params { hdr: *header, acpi_rsdp_addr: ACPI, ..Default::default() };
    page.hdr.type_of_loader = LOADER_UNDEFINED;
    page.hdr.cmd_line_ptr = COMMAND_LINE as u32;
    if let Some(range) = initrd {
        // Both lie below 4 GiB: an initrd never leaves low memory.
        page.hdr.ramdisk_image = range.addr as u32;
        page.hdr.ramdisk_size = range.len as u32;
    }
    let mut table = page.e820_table;
    for (place, entry) in table.iter_mut().zip(map) {
        *place =
            boot_e820_entry { addr: entry.address, size: entry.len, r#type: entry.what as u32 };
    }
    page.e820_table = table;
    page.e820_entries = map.len().min(table.len()) as u8;
    let place = memory.check(GuestRange::new(ZERO_PAGE, size_of::<boot_params>() as u64))?;
    Ok(place.write_obj(0, page)?)
}
