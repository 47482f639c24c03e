//! A kernel as an ELF file with a PVH note (Xen's "x86/HVM direct boot ABI").
//!
//! Every PT_LOAD segment goes to its physical address; the note names the 32-bit entry.

use bulkhead_memory::{GuestMemory, GuestRange};
use linux_loader::elf::{Elf64_Ehdr, Elf64_Nhdr, Elf64_Phdr};

use crate::error::BootError;
use crate::image::Image;
use crate::places::HIGH_MEMORY;
use crate::{Loaded, Protocol};

const MAGIC: [u8; 4] = *b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_NOTE: u32 = 4;

/// A vmlinux has five program headers. More than this is no kernel.
const MOST_SEGMENTS: u16 = 64;
/// A vmlinux has some hundred bytes of notes.
const MOST_NOTES: u64 = 64 * 1024;

/// XEN_ELFNOTE_PHYS32_ENTRY.
const NOTE_ENTRY: u32 = 18;
const NOTE_OWNER: &[u8] = b"Xen\0";

/// Linux' own limit, COMMAND_LINE_SIZE less the zero; PVH has no way to say another.
const COMMAND_LINE_MAX: usize = 2047;
/// Where the kernel maps modules from early on.
const INITRD_MAX: u64 = 0x7fff_ffff;

/// Whether the file begins as ELF files do.
pub(crate) fn is_elf(image: &Image<'_>) -> Result<bool, BootError> {
    let mut magic = [0; 4];
    if image.len() < magic.len() as u64 {
        return Err(BootError::NotAKernel);
    }
    image.read(0, &mut magic)?;
    Ok(magic == MAGIC)
}

/// Loads the segments below `ram_end` and finds the entry.
pub(crate) fn load(
    image: &Image<'_>,
    memory: &GuestMemory,
    ram_end: u64,
) -> Result<Loaded, BootError> {
    let segments = segments(image)?;
    let entry = entry(image, &segments)?;
    let loads: Vec<_> = segments.iter().filter(|segment| segment.p_type == SEGMENT_LOAD).collect();
    let mut end = HIGH_MEMORY;
    for segment in &loads {
        let segment_end = check(image, segment)?;
        if segment_end > ram_end {
            return Err(BootError::KernelDoesNotFit { needed: segment_end, ram: ram_end });
        }
        end = end.max(segment_end);
    }
    if !loads
        .iter()
        .any(|segment| (segment.p_paddr..segment.p_paddr + segment.p_filesz).contains(&entry))
    {
        return Err(image.damaged("its entry lies in no segment"));
    }
    for segment in loads {
        place(image, segment, memory)?;
    }
    Ok(Loaded {
        entry,
        end,
        initrd_max: INITRD_MAX,
        command_line_max: COMMAND_LINE_MAX,
        protocol: Protocol::Pvh,
    })
}

fn segments(image: &Image<'_>) -> Result<Vec<Elf64_Phdr>, BootError> {
    const HEADER: u64 = size_of::<Elf64_Ehdr>() as u64;
    const ENTRY: u64 = size_of::<Elf64_Phdr>() as u64;
    if image.len() < HEADER {
        return Err(image.damaged("it ends within the ELF header"));
    }
    let header: Elf64_Ehdr = image.read_obj(0)?;
    let [class, data] = [header.e_ident[4], header.e_ident[5]];
    if (class, data, header.e_machine) != (CLASS_64, LITTLE_ENDIAN, MACHINE_X86_64) {
        return Err(BootError::ForeignElf);
    }
    if u64::from(header.e_phentsize) != ENTRY || header.e_phnum > MOST_SEGMENTS {
        return Err(image.damaged("its program headers have a shape that no kernel has"));
    }
    let table_end = header.e_phoff.checked_add(ENTRY * u64::from(header.e_phnum));
    if table_end.is_none_or(|end| end > image.len()) {
        return Err(image.damaged("its program headers lie outside of the file"));
    }
    (0..u64::from(header.e_phnum))
        .map(|number| image.read_obj(header.e_phoff + number * ENTRY))
        .collect()
}

/// Where the segment ends in guest memory.
fn check(image: &Image<'_>, segment: &Elf64_Phdr) -> Result<u64, BootError> {
    let file_end = segment.p_offset.checked_add(segment.p_filesz);
    if file_end.is_none_or(|end| end > image.len()) {
        return Err(image.damaged("a segment lies outside of the file"));
    }
    if segment.p_filesz > segment.p_memsz {
        return Err(image.damaged("a segment is longer in the file than in memory"));
    }
    if segment.p_paddr < HIGH_MEMORY && segment.p_memsz != 0 {
        return Err(image.damaged("a segment belongs into the first MiB"));
    }
    segment
        .p_paddr
        .checked_add(segment.p_memsz)
        .ok_or_else(|| image.damaged("a segment ends beyond 64 bits"))
}

/// Reads a segment and clears the rest of it: after a reset, memory is not fresh.
fn place(image: &Image<'_>, segment: &Elf64_Phdr, memory: &GuestMemory) -> Result<(), BootError> {
    let data = GuestRange::new(segment.p_paddr, segment.p_filesz);
    image.read_to_guest(segment.p_offset, memory, data)?;
    let rest = segment.p_memsz - segment.p_filesz;
    if rest > 0 {
        memory.check(GuestRange::new(segment.p_paddr + segment.p_filesz, rest))?.zero()?;
    }
    Ok(())
}

/// The entry that the PVH note names.
fn entry(image: &Image<'_>, segments: &[Elf64_Phdr]) -> Result<u64, BootError> {
    for segment in segments.iter().filter(|segment| segment.p_type == SEGMENT_NOTE) {
        let end = segment.p_offset.checked_add(segment.p_filesz);
        if segment.p_filesz > MOST_NOTES || end.is_none_or(|end| end > image.len()) {
            return Err(image.damaged("its notes lie outside of the file"));
        }
        let mut notes = vec![0; segment.p_filesz as usize];
        image.read(segment.p_offset, &mut notes)?;
        let align = if segment.p_align == 8 { 8 } else { 4 };
        if let Some(entry) = find_note(&notes, align) {
            return Ok(entry);
        }
    }
    Err(BootError::NoPvhNote)
}

/// Walks the notes: header and name, then the description, each padded to `align` from the note's
/// beginning. Ends at the first note that does not fit.
fn find_note(mut notes: &[u8], align: usize) -> Option<u64> {
    const HEADER: usize = size_of::<Elf64_Nhdr>();
    loop {
        let word = |at: usize| Some(u32::from_le_bytes(notes.get(at..at + 4)?.try_into().ok()?));
        let (name_len, len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let name = notes.get(HEADER..)?.get(..name_len)?;
        let description = (HEADER + name_len).checked_next_multiple_of(align)?;
        let end = description.checked_add(len)?;
        let description = notes.get(description..end)?;
        if (kind, name) == (NOTE_ENTRY, NOTE_OWNER) {
            return match *description {
                [a, b, c, d] | [a, b, c, d, 0, 0, 0, 0] => {
                    Some(u32::from_le_bytes([a, b, c, d]).into())
                }
                _ => None,
            };
        }
        // The last note's padding may be missing.
        notes = notes.get(end.checked_next_multiple_of(align)?..).unwrap_or_default();
    }
}

#[cfg(test)]
pub(crate) mod tests;
