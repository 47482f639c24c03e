//! What an ELF file of either class says is to be loaded, checked against the file and put into RAM.
//!
//! Called by [`crate::elf`] (64 bits, PVH) and [`crate::multiboot`] (32 bits, or no ELF file at all).

use bulkhead_memory::{GuestMemory, GuestRange};
use linux_loader::elf::{Elf64_Ehdr, Elf64_Phdr};

use crate::error::BootError;
use crate::image::Image;
use crate::places::HIGH_MEMORY;

const MAGIC: [u8; 4] = *b"\x7fELF";
const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_386: u16 = 3;
const MACHINE_X86_64: u16 = 62;

/// PT_LOAD.
pub(crate) const LOAD: u32 = 1;
/// PT_NOTE.
pub(crate) const NOTE: u32 = 4;

/// A vmlinux has five program headers. More than this is no kernel.
const MOST_SEGMENTS: u16 = 64;

/// Bytes of `Elf32_Ehdr` and `Elf32_Phdr` (System V ABI, Intel386 supplement, chapter 4).
const HEADER_32: usize = 52;
const ENTRY_32: usize = 32;

/// Width of a file's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Bits32,
    Bits64,
}

/// One program header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub kind: u32,
    /// First byte in the file.
    pub offset: u64,
    /// First byte in guest memory.
    pub address: u64,
    /// Bytes in the file.
    pub file_len: u64,
    /// Bytes in memory; those beyond the file's are zero.
    pub len: u64,
    pub align: u64,
}

/// An ELF file's headers.
#[derive(Debug)]
pub(crate) struct ElfFile {
    pub class: Class,
    pub entry: u64,
    pub segments: Vec<Segment>,
}

/// Whether the file begins as ELF files do.
pub(crate) fn is_elf(image: &Image<'_>) -> Result<bool, BootError> {
    let mut magic = [0; 4];
    if image.len() < magic.len() as u64 {
        return Err(BootError::NotAKernel);
    }
    image.read(0, &mut magic)?;
    Ok(magic == MAGIC)
}

impl ElfFile {
    /// Reads the headers.
    pub fn read(image: &Image<'_>) -> Result<Self, BootError> {
        let mut ident = [0; 6];
        if image.len() < HEADER_32 as u64 {
            return Err(image.damaged("it ends within the ELF header"));
        }
        image.read(0, &mut ident)?;
        match (ident[4], ident[5]) {
            (CLASS_64, LITTLE_ENDIAN) => read_64(image),
            (CLASS_32, LITTLE_ENDIAN) => read_32(image),
            _ => Err(BootError::ForeignElf),
        }
    }
}

fn read_64(image: &Image<'_>) -> Result<ElfFile, BootError> {
    const HEADER: u64 = size_of::<Elf64_Ehdr>() as u64;
    const ENTRY: u64 = size_of::<Elf64_Phdr>() as u64;
    if image.len() < HEADER {
        return Err(image.damaged("it ends within the ELF header"));
    }
    let header: Elf64_Ehdr = image.read_obj(0)?;
    if header.e_machine != MACHINE_X86_64 {
        return Err(BootError::ForeignElf);
    }
    let shape = (header.e_phentsize.into(), header.e_phnum);
    check_table(image, header.e_phoff, shape, ENTRY)?;
    let segment = |number| {
        let entry: Elf64_Phdr = image.read_obj(header.e_phoff + number * ENTRY)?;
        Ok(Segment {
            kind: entry.p_type,
            offset: entry.p_offset,
            address: entry.p_paddr,
            file_len: entry.p_filesz,
            len: entry.p_memsz,
            align: entry.p_align,
        })
    };
    let segments = (0..header.e_phnum.into()).map(segment).collect::<Result<_, BootError>>()?;
    Ok(ElfFile { class: Class::Bits64, entry: header.e_entry, segments })
}

fn read_32(image: &Image<'_>) -> Result<ElfFile, BootError> {
    let mut header = [0; HEADER_32];
    image.read(0, &mut header)?;
    if half(&header, 18) != MACHINE_386 {
        return Err(BootError::ForeignElf);
    }
    let table = u64::from(word(&header, 28));
    let count = half(&header, 44);
    check_table(image, table, (half(&header, 42).into(), count), ENTRY_32 as u64)?;
    let segment = |number| {
        let mut entry = [0; ENTRY_32];
        image.read(table + number * ENTRY_32 as u64, &mut entry)?;
        Ok(Segment {
            kind: word(&entry, 0),
            offset: word(&entry, 4).into(),
            address: word(&entry, 12).into(),
            file_len: word(&entry, 16).into(),
            len: word(&entry, 20).into(),
            align: word(&entry, 28).into(),
        })
    };
    let segments = (0..count.into()).map(segment).collect::<Result<_, BootError>>()?;
    Ok(ElfFile { class: Class::Bits32, entry: word(&header, 24).into(), segments })
}

/// Program headers of `shape` (bytes of each as the file says, and how many) at `table`, of which each
/// should have `entry` bytes.
fn check_table(
    image: &Image<'_>,
    table: u64,
    shape: (u64, u16),
    entry: u64,
) -> Result<(), BootError> {
    let (each, count) = shape;
    if each != entry || count > MOST_SEGMENTS {
        return Err(image.damaged("its program headers have a shape that no kernel has"));
    }
    let end = table.checked_add(entry * u64::from(count));
    if end.is_none_or(|end| end > image.len()) {
        return Err(image.damaged("its program headers lie outside of the file"));
    }
    Ok(())
}

/// Loads every segment that is to be loaded, below `ram_end`; `entry` must lie in one of them. Returns
/// the first byte of RAM behind all of them.
pub(crate) fn load(
    image: &Image<'_>,
    segments: &[Segment],
    entry: u64,
    memory: &GuestMemory,
    ram_end: u64,
) -> Result<u64, BootError> {
    let loads: Vec<_> = segments.iter().filter(|segment| segment.kind == LOAD).collect();
    let mut end = HIGH_MEMORY;
    for segment in &loads {
        let segment_end = check(image, segment)?;
        if segment_end > ram_end {
            return Err(BootError::KernelDoesNotFit { needed: segment_end, ram: ram_end });
        }
        end = end.max(segment_end);
    }
    let has_entry =
        |segment: &&Segment| (segment.address..segment.address + segment.file_len).contains(&entry);
    if !loads.iter().copied().any(|segment| has_entry(&segment)) {
        return Err(image.damaged("its entry lies in no segment"));
    }
    for segment in loads {
        place(image, segment, memory)?;
    }
    Ok(end)
}

/// Where the segment ends in guest memory.
fn check(image: &Image<'_>, segment: &Segment) -> Result<u64, BootError> {
    let file_end = segment.offset.checked_add(segment.file_len);
    if file_end.is_none_or(|end| end > image.len()) {
        return Err(image.damaged("a segment lies outside of the file"));
    }
    if segment.file_len > segment.len {
        return Err(image.damaged("a segment is longer in the file than in memory"));
    }
    if segment.address < HIGH_MEMORY && segment.len != 0 {
        return Err(image.damaged("a segment belongs into the first MiB"));
    }
    let end = segment.address.checked_add(segment.len);
    end.ok_or_else(|| image.damaged("a segment ends beyond 64 bits"))
}

/// Reads a segment and clears the rest of it: after a reset, memory is not fresh.
fn place(image: &Image<'_>, segment: &Segment, memory: &GuestMemory) -> Result<(), BootError> {
    let data = GuestRange::new(segment.address, segment.file_len);
    image.read_to_guest(segment.offset, memory, data)?;
    let rest = segment.len - segment.file_len;
    if rest > 0 {
        memory.check(GuestRange::new(segment.address + segment.file_len, rest))?.zero()?;
    }
    Ok(())
}

/// The little-endian word at `at`; 0 beyond the end.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u32::from_le_bytes(*word))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    word(bytes, at) as u16
}
