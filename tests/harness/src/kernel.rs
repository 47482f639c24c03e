//! Kernels of a few bytes: a PVH ELF (Xen's `XEN_ELFNOTE_PHYS32_ENTRY`) around hand-made code, for
//! tests that need a guest but no operating system.

/// Where the code lies in guest memory, and is entered.
pub const LOAD_ADDRESS: u32 = 0x10_0000;

/// `XEN_ELFNOTE_PHYS32_ENTRY` of xen/interface/elfnote.h.
const NOTE_PHYS32_ENTRY: u32 = 18;

const HEADER: usize = 64;
const SEGMENT: usize = 56;
const NOTE: usize = 20;

/// An ELF whose 32-bit protected mode entry is the first byte of `code`.
pub fn pvh(code: &[u8]) -> Vec<u8> {
    let note_at = HEADER + 2 * SEGMENT;
    let code_at = (note_at + NOTE).next_multiple_of(16);
    let mut elf = Vec::new();
    // ELF64 header (ELF-64 object file format, section 3): little endian, executable, x86-64.
    elf.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend(2u16.to_le_bytes());
    elf.extend(62u16.to_le_bytes());
    elf.extend(1u32.to_le_bytes());
    elf.extend(u64::from(LOAD_ADDRESS).to_le_bytes());
    elf.extend((HEADER as u64).to_le_bytes());
    elf.extend(0u64.to_le_bytes());
    elf.extend(0u32.to_le_bytes());
    for half in [HEADER, SEGMENT, 2, 0, 0, 0] {
        elf.extend((half as u16).to_le_bytes());
    }
    segment(&mut elf, 1, 5, code_at, u64::from(LOAD_ADDRESS), code.len());
    segment(&mut elf, 4, 4, note_at, 0, NOTE);
    for word in [4u32, 4, NOTE_PHYS32_ENTRY] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(b"Xen\0");
    elf.extend(LOAD_ADDRESS.to_le_bytes());
    elf.resize(code_at, 0);
    elf.extend(code);
    elf
}

fn segment(elf: &mut Vec<u8>, kind: u32, flags: u32, at: usize, address: u64, len: usize) {
    elf.extend(kind.to_le_bytes());
    elf.extend(flags.to_le_bytes());
    elf.extend((at as u64).to_le_bytes());
    elf.extend(address.to_le_bytes());
    elf.extend(address.to_le_bytes());
    elf.extend((len as u64).to_le_bytes());
    elf.extend((len as u64).to_le_bytes());
    elf.extend(4u64.to_le_bytes());
}
