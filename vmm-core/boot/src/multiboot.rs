//! Multiboot (version 0.6.96), the entry of small kernels: unit tests, hobby systems, hypervisors.
//!
//! A header in the file's first 8 KiB says where the rest goes, or leaves that to the ELF headers
//! around it. The kernel starts in 32-bit protected mode with EAX = [`BOOTED`] and EBX at the
//! information of section 3.3, which has the memory, its map, the command line and, as the only
//! module, the initrd.
//!
//! Absent on purpose: video modes, for there is no screen: a kernel that insists on one is refused.

use bulkhead_memory::{GuestMemory, GuestRange};

use crate::error::BootError;
use crate::image::Image;
use crate::memory_map::MapEntry;
use crate::places::{
    COMMAND_LINE, COMMAND_LINE_ROOM, CONVENTIONAL_END, HIGH_MEMORY, START_INFO, START_INFO_MAP,
    START_INFO_MODULES, START_INFO_STRINGS,
};
use crate::segments::{self, Class, ElfFile, LOAD, Segment, word};
use crate::{Loaded, Protocol};

/// What EAX holds at the entry.
pub(crate) const BOOTED: u64 = 0x2bad_b002;

/// What a command line begins with, for boot loaders put the kernel's name there and kernels skip it.
pub(crate) const NAME: &str = "kernel ";

const MAGIC: u32 = 0x1bad_b002;
/// The header lies within so many bytes, on a multiple of four.
const SEARCHED: u64 = 8192;
/// Magic, flags and checksum; with the addresses there are five words more.
const SHORT_HEADER: usize = 12;
const HEADER: usize = 32;

/// Flags 0 to 15 are demands. Modules on pages and the memory's size: always so here.
const GRANTED: u32 = 0b11;
const VIDEO: u32 = 0b100;
const DEMANDS: u32 = 0xffff;
/// The header has addresses.
const ADDRESSES: u32 = 1 << 16;

/// Flags of the information: memory, command line, modules, memory map, loader's name.
const HAS_MEMORY: u32 = 1;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MAP: u32 = 1 << 6;
const HAS_LOADER: u32 = 1 << 9;

/// Words of the information up to the loader's name, and of one module.
const INFORMATION: usize = 17;
const MODULE: usize = 4;
/// Bytes of one line of the map, and what its first word says: the bytes that follow it.
const MAP_ENTRY: usize = 24;

const LOADER: &[u8] = b"Bulkhead\0";

/// A header that was found.
struct Header {
    /// Where in the file.
    at: u64,
    flags: u32,
    /// Its own address, where the file goes, where that ends, where the zeroes end, the entry.
    addresses: [u32; 5],
}

/// Loads a file that has a header. `None`: it has none. `elf`: its headers, if it is an ELF file.
pub(crate) fn load(
    image: &Image<'_>,
    elf: Option<&ElfFile>,
    memory: &GuestMemory,
    ram_end: u64,
) -> Result<Option<Loaded>, BootError> {
    let Some(header) = find(image)? else { return Ok(None) };
    check_demands(header.flags)?;
    let (entry, end) = match elf {
        _ if header.flags & ADDRESSES != 0 => {
            let (segment, entry) = by_addresses(image, &header)?;
            (entry, segments::load(image, &[segment], entry, memory, ram_end)?)
        }
        Some(file) if file.class == Class::Bits32 => {
            let end = segments::load(image, &file.segments, file.entry, memory, ram_end)?;
            (file.entry, end)
        }
        _ => return Err(image.damaged("its multiboot header does not say where it goes")),
    };
    Ok(Some(Loaded {
        entry,
        end,
        initrd_max: u32::MAX.into(),
        command_line_max: COMMAND_LINE_ROOM - 1,
        protocol: Protocol::Multiboot,
    }))
}

fn find(image: &Image<'_>) -> Result<Option<Header>, BootError> {
    let mut start = vec![0; image.len().min(SEARCHED) as usize];
    image.read(0, &mut start)?;
    let is_header = |header: &[u8]| {
        let [magic, flags, checksum] = [0, 4, 8].map(|at| word(header, at));
        let len = if flags & ADDRESSES == 0 { SHORT_HEADER } else { HEADER };
        let sum = magic.wrapping_add(flags).wrapping_add(checksum);
        header.len() >= len && magic == MAGIC && sum == 0
    };
    let candidates = (0..start.len()).step_by(4).filter_map(|at| Some((at, start.get(at..)?)));
    let found = candidates.into_iter().find(|(_, header)| is_header(header));
    Ok(found.map(|(at, header)| Header {
        at: at as u64,
        flags: word(header, 4),
        addresses: [12, 16, 20, 24, 28].map(|at| word(header, at)),
    }))
}

fn check_demands(flags: u32) -> Result<(), BootError> {
    match flags & DEMANDS & !GRANTED {
        0 => Ok(()),
        VIDEO => Err(BootError::MultibootDemand { demand: "a video mode", bits: VIDEO }),
        bits => Err(BootError::MultibootDemand { demand: "what nobody has defined", bits }),
    }
}

/// The one segment that a header's addresses describe, and the entry.
fn by_addresses(image: &Image<'_>, header: &Header) -> Result<(Segment, u64), BootError> {
    let [own, start, load_end, zero_end, entry] = header.addresses.map(u64::from);
    let before = own.checked_sub(start).filter(|before| *before <= header.at);
    let before =
        before.ok_or_else(|| image.damaged("its multiboot header is not where it says"))?;
    let offset = header.at - before;
    let file_len = match load_end {
        0 => Some(image.len() - offset),
        end => end.checked_sub(start),
    };
    let file_len = file_len.ok_or_else(|| image.damaged("it ends before it begins"))?;
    let len = match zero_end {
        0 => Some(file_len),
        end => end.checked_sub(start),
    };
    let len = len.ok_or_else(|| image.damaged("it ends before it begins"))?;
    Ok((Segment { kind: LOAD, offset, address: start, file_len, len, align: 4 }, entry))
}

/// Writes the information, the map and the module list.
pub(crate) fn write(
    memory: &GuestMemory,
    map: &[MapEntry],
    low: u64,
    initrd: Option<GuestRange>,
) -> Result<(), BootError> {
    let mut lines = Vec::new();
    for entry in map {
        lines.extend((MAP_ENTRY as u32 - 4).to_le_bytes());
        lines.extend(entry.address.to_le_bytes());
        lines.extend(entry.len.to_le_bytes());
        lines.extend((entry.what as u32).to_le_bytes());
    }
    put(memory, START_INFO_MAP, &lines)?;
    put(memory, START_INFO_STRINGS, LOADER)?;
    let module = initrd.map_or([0; MODULE], |range| {
        // The list of modules gives each a string; this one's is empty: the loader's final zero.
        let empty = START_INFO_STRINGS + LOADER.len() as u64 - 1;
        [range.addr as u32, (range.addr + range.len) as u32, empty as u32, 0]
    });
    put(memory, START_INFO_MODULES, module.map(u32::to_le_bytes).as_flattened())?;
    let modules = u32::from(initrd.is_some());
    let mut words = [0; INFORMATION];
    words[0] = HAS_MEMORY | HAS_COMMAND_LINE | HAS_MAP | HAS_LOADER | (HAS_MODULES * modules);
    words[1] = (CONVENTIONAL_END >> 10) as u32;
    words[2] = ((low - HIGH_MEMORY) >> 10) as u32;
    words[4] = COMMAND_LINE as u32;
    words[5] = modules;
    words[6] = START_INFO_MODULES as u32;
    words[11] = lines.len() as u32;
    words[12] = START_INFO_MAP as u32;
    words[16] = START_INFO_STRINGS as u32;
    put(memory, START_INFO, words.map(u32::to_le_bytes).as_flattened())
}

fn put(memory: &GuestMemory, at: u64, bytes: &[u8]) -> Result<(), BootError> {
    let place = memory.check(GuestRange::new(at, bytes.len() as u64))?;
    Ok(place.copy_out(bytes)?)
}

#[cfg(test)]
pub(crate) mod tests;
