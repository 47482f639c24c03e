//! A kernel as an ELF file with a PVH note (Xen's "x86/HVM direct boot ABI").
//!
//! Every PT_LOAD segment goes to its physical address ([`crate::segments`]); the note names the 32-bit
//! entry.

use bulkhead_memory::GuestMemory;
use linux_loader::elf::Elf64_Nhdr;

use crate::error::BootError;
use crate::image::Image;
use crate::segments::{self, ElfFile, NOTE, Segment};
use crate::{Loaded, Protocol};

/// A vmlinux has some hundred bytes of notes.
const MOST_NOTES: u64 = 64 * 1024;

/// XEN_ELFNOTE_PHYS32_ENTRY.
const NOTE_ENTRY: u32 = 18;
const NOTE_OWNER: &[u8] = b"Xen\0";

/// Linux' own limit, COMMAND_LINE_SIZE less the zero; PVH has no way to say another.
const COMMAND_LINE_MAX: usize = 2047;
/// Where the kernel maps modules from early on.
const INITRD_MAX: u64 = 0x7fff_ffff;

/// Loads the segments of a 64-bit file below `ram_end` and finds the entry.
pub(crate) fn load(
    image: &Image<'_>,
    file: &ElfFile,
    memory: &GuestMemory,
    ram_end: u64,
) -> Result<Loaded, BootError> {
    let entry = entry(image, &file.segments)?;
    let end = segments::load(image, &file.segments, entry, memory, ram_end)?;
    Ok(Loaded {
        entry,
        end,
        initrd_max: INITRD_MAX,
        command_line_max: COMMAND_LINE_MAX,
        protocol: Protocol::Pvh,
    })
}

/// The entry that the PVH note names.
fn entry(image: &Image<'_>, segments: &[Segment]) -> Result<u64, BootError> {
    for segment in segments.iter().filter(|segment| segment.kind == NOTE) {
        let end = segment.offset.checked_add(segment.file_len);
        if segment.file_len > MOST_NOTES || end.is_none_or(|end| end > image.len()) {
            return Err(image.damaged("its notes lie outside of the file"));
        }
        let mut notes = vec![0; segment.file_len as usize];
        image.read(segment.offset, &mut notes)?;
        let align = if segment.align == 8 { 8 } else { 4 };
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
