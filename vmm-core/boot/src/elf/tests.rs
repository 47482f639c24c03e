use bulkhead_memory::GuestRange;

use super::*;
use crate::tests::{bytes, file, ram};

const SEGMENT_LOAD: u32 = segments::LOAD;
const SEGMENT_NOTE: u32 = segments::NOTE;
const MACHINE_X86_64: u16 = 62;

pub(crate) const SEGMENT: u64 = 0x10_0000;
pub(crate) const ENTRY: u64 = SEGMENT + 0x10;
pub(crate) const MEMORY_LEN: u64 = 0x3000;
const CODE: &[u8] = &[0x90; 0x100];
const NOTES: usize = 64 + 2 * 56;

/// Offsets of fields in the file.
const PHNUM: usize = 56;
const LOAD: usize = 64;
const NOTE: usize = 64 + 56;

/// A small vmlinux: one segment with bss, one note segment with another's note before ours.
pub(crate) fn kernel() -> Vec<u8> {
    let mut notes = Vec::new();
    notes.extend([4u32, 2, 1].map(u32::to_le_bytes).concat());
    notes.extend(b"GNU\0\x01\x02\0\0");
    notes.extend([4u32, 4, NOTE_ENTRY].map(u32::to_le_bytes).concat());
    notes.extend(b"Xen\0");
    notes.extend((ENTRY as u32).to_le_bytes());
    let code_at = 0x1000u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2u16, MACHINE_X86_64].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file.extend([0u64, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 2, 0, 0, 0].map(u16::to_le_bytes).concat());
    let mut segment = |kind: u32, offset: u64, address: u64, len: u64, memory: u64| {
        file.extend([kind, 7].map(u32::to_le_bytes).concat());
        file.extend([offset, address, address, len, memory, 4].map(u64::to_le_bytes).concat());
    };
    segment(SEGMENT_LOAD, code_at, SEGMENT, CODE.len() as u64, MEMORY_LEN);
    segment(SEGMENT_NOTE, NOTES as u64, 0, notes.len() as u64, 0);
    file.extend(notes);
    file.resize(code_at as usize, 0);
    file.extend(CODE);
    file
}

fn try_load(bytes: &[u8], ram_end: u64) -> Result<Loaded, BootError> {
    let file = file(bytes);
    let (memory, _) = ram(ram_end);
    let image = Image::new(&file, "kernel", &|| {})?;
    load(&image, &ElfFile::read(&image)?, &memory, ram_end)
}

fn with_long(at: usize, value: u64) -> Vec<u8> {
    let mut kernel = kernel();
    kernel[at..at + 8].copy_from_slice(&value.to_le_bytes());
    kernel
}

fn fault(bytes: &[u8]) -> String {
    try_load(bytes, 8 << 20).unwrap_err().to_string()
}

#[test]
fn segments_go_to_their_addresses_and_the_rest_is_cleared() {
    let file = file(&kernel());
    let (memory, _) = ram(8 << 20);
    let dirty = memory.check(GuestRange::new(SEGMENT, MEMORY_LEN)).unwrap();
    dirty.copy_out(&[0xee; MEMORY_LEN as usize]).unwrap();
    let image = Image::new(&file, "kernel", &|| {}).unwrap();
    let loaded = load(&image, &ElfFile::read(&image).unwrap(), &memory, 8 << 20).unwrap();
    assert_eq!((loaded.entry, loaded.end), (ENTRY, SEGMENT + MEMORY_LEN));
    let mut expected = CODE.to_vec();
    expected.resize(MEMORY_LEN as usize, 0);
    assert!(bytes(&memory, SEGMENT, MEMORY_LEN as usize) == expected);
}

/// A note as linkers write it.
fn note(owner: &[u8], kind: u32, description: &[u8], align: usize) -> Vec<u8> {
    let lengths = [owner.len() as u32, description.len() as u32, kind];
    let mut note = lengths.map(u32::to_le_bytes).concat();
    note.extend(owner);
    note.resize(note.len().next_multiple_of(align), 0);
    note.extend(description);
    note.resize(note.len().next_multiple_of(align), 0);
    note
}

#[test]
fn notes_of_others_are_passed_over_in_both_alignments() {
    let entry = 0x123_4567u32;
    for align in [4, 8] {
        for description in [entry.to_le_bytes().to_vec(), u64::from(entry).to_le_bytes().to_vec()] {
            let mut notes = note(b"GNU\0", 3, &[1, 2, 3], align);
            notes.extend(note(b"Xen\0", 6, b"linux", align));
            notes.extend(note(b"", NOTE_ENTRY, &[9; 4], align));
            assert_eq!(find_note(&notes, align), None);
            notes.extend(note(NOTE_OWNER, NOTE_ENTRY, &description, align));
            assert_eq!(find_note(&notes, align), Some(entry.into()), "{align} {description:?}");
        }
    }
}

#[test]
fn an_entry_beyond_32_bits_is_none() {
    assert_eq!(find_note(&note(NOTE_OWNER, NOTE_ENTRY, &[0xff; 8], 4), 4), None);
}

#[test]
fn notes_that_lie_about_their_lengths_end_the_search() {
    for (name, description) in [(u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX), (4, 100)] {
        let mut notes = [name, description, NOTE_ENTRY].map(u32::to_le_bytes).concat();
        notes.extend(b"Xen\0\0\0\0\0");
        assert_eq!(find_note(&notes, 4), None);
        assert_eq!(find_note(&notes, 8), None);
    }
}

#[test]
fn an_elf_file_without_the_note_is_called_so() {
    let mut kernel = kernel();
    let owner = kernel.windows(4).position(|window| window == NOTE_OWNER).unwrap();
    kernel[owner] = b'Y';
    assert!(fault(&kernel).contains("without a PVH note"));
}

#[test]
fn other_machines_and_classes_are_foreign() {
    for (at, value) in [(4, 1), (5, 2), (18, 40)] {
        let mut kernel = kernel();
        kernel[at] = value;
        assert!(matches!(try_load(&kernel, 8 << 20), Err(BootError::ForeignElf)));
    }
}

#[test]
fn numbers_that_contradict_the_file_are_damage() {
    assert!(fault(&with_long(32, u64::MAX - 8)).contains("program headers lie outside"));
    assert!(fault(&with_long(LOAD + 8, u64::MAX - 8)).contains("a segment lies outside"));
    assert!(fault(&with_long(LOAD + 32, 0x2000)).contains("a segment lies outside"));
    assert!(fault(&with_long(LOAD + 40, 0x10)).contains("longer in the file"));
    assert!(fault(&with_long(LOAD + 24, 0x1000)).contains("first MiB"));
    assert!(fault(&with_long(LOAD + 40, u64::MAX)).contains("beyond 64 bits"));
    assert!(fault(&with_long(NOTE + 8, 1 << 40)).contains("notes lie outside"));
    assert!(fault(&with_long(NOTE + 32, 1 << 40)).contains("notes lie outside"));
    let mut many = kernel();
    many[PHNUM] = 0xff;
    assert!(fault(&many).contains("a shape that no kernel has"));
    assert!(fault(&kernel()[..50]).contains("within the ELF header"));
}

#[test]
fn an_entry_outside_of_all_segments_is_damage() {
    assert!(fault(&with_long(LOAD + 24, SEGMENT + 0x1000)).contains("entry lies in no segment"));
}

#[test]
fn a_kernel_beyond_ram_needs_more_memory() {
    let kernel = with_long(LOAD + 40, 7 << 20);
    assert!(try_load(&kernel, 8 << 20).is_ok());
    let kernel = with_long(LOAD + 40, (7 << 20) + 1);
    let error = try_load(&kernel, 8 << 20).unwrap_err();
    assert!(matches!(error, BootError::KernelDoesNotFit { needed: 0x80_0001, ram: 0x80_0000 }));
    assert_eq!(error.option(), "--memory");
    assert_eq!(error.to_string(), "the kernel needs 9 MiB of RAM, the machine has 8 MiB");
}
