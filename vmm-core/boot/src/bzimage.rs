//! A kernel as a bzImage (Documentation/arch/x86/boot.rst): a setup header, then a 64-bit program that
//! unpacks the kernel around itself.
//!
//! The program is put where the unpacked kernel wants to be, with as much RAM behind it as the header
//! says that unpacking needs.

use bulkhead_memory::{GuestMemory, GuestRange};
use linux_loader::bootparam::setup_header;

use crate::error::BootError;
use crate::image::Image;
use crate::places::{COMMAND_LINE_ROOM, HIGH_MEMORY};
use crate::{Loaded, Protocol};

/// Where the setup header begins in the file.
const HEADER: u64 = 0x1f1;
const SECTOR: u64 = 512;
/// `boot_flag` and `header` ("HdrS").
const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: u32 = 0x5372_6448;
/// Boot protocol 2.12, the first that says whether there is a 64-bit entry.
const VERSION_64: u16 = 0x020c;
/// `loadflags`: the protected-mode part belongs to 1 MiB or above.
const LOADED_HIGH: u8 = 1;
/// `xloadflags`: there is a 64-bit entry, 512 bytes into the protected-mode part.
const KERNEL_64: u16 = 1;
const ENTRY_64: u64 = 0x200;
/// `setup_sects` of ancient images.
const SETUP_SECTORS_UNSET: u64 = 4;
/// `syssize` counts in these.
const PARAGRAPH: u64 = 16;

/// Loads the protected-mode part.
pub(crate) fn load(
    image: &Image<'_>,
    memory: &GuestMemory,
    ram_end: u64,
) -> Result<Loaded, BootError> {
    let header = header(image)?;
    let setup = match u64::from(header.setup_sects) {
        0 => SETUP_SECTORS_UNSET,
        sectors => sectors,
    };
    let start = (setup + 1) * SECTOR;
    let in_file = image.len().checked_sub(start).filter(|len| *len > ENTRY_64);
    let in_file = in_file.ok_or_else(|| image.damaged("it ends within its setup code"))?;
    let promised = u64::from(header.syssize) * PARAGRAPH;
    // The file's last paragraph need not be whole.
    if promised > in_file + PARAGRAPH - 1 {
        return Err(image.damaged("it is shorter than its header says"));
    }
    // What follows (a signature) is not loaded.
    let len = if promised == 0 { in_file } else { promised.min(in_file) };
    let address = { header.pref_address }.max(HIGH_MEMORY);
    let end = address.checked_add({ header.init_size }.max(len as u32).into());
    let end = end.ok_or_else(|| image.damaged("it wants to end beyond 64 bits"))?;
    if end > ram_end || u32::try_from(len).is_err() {
        return Err(BootError::KernelDoesNotFit { needed: end, ram: ram_end });
    }
    image.read_to_guest(start, memory, GuestRange::new(address, len))?;
    let header = setup_header { code32_start: address as u32, ..header };
    Ok(Loaded {
        entry: address + ENTRY_64,
        end,
        initrd_max: header.initrd_addr_max.into(),
        command_line_max: (header.cmdline_size as usize).min(COMMAND_LINE_ROOM - 1),
        protocol: Protocol::Linux64(header),
    })
}

/// The setup header, if it is one that we can start.
fn header(image: &Image<'_>) -> Result<setup_header, BootError> {
    if image.len() < HEADER + size_of::<setup_header>() as u64 {
        return Err(BootError::NotAKernel);
    }
    let header: setup_header = image.read_obj(HEADER)?;
    if (header.boot_flag, header.header) != (BOOT_FLAG, MAGIC)
        || header.loadflags & LOADED_HIGH == 0
    {
        return Err(BootError::NotAKernel);
    }
    let version = header.version;
    if version < VERSION_64 || header.xloadflags & KERNEL_64 == 0 {
        return Err(BootError::No64BitEntry { version });
    }
    Ok(header)
}

#[cfg(test)]
pub(crate) mod tests;
