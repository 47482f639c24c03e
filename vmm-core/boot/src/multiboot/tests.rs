use super::*;
use crate::tests::{bytes, file, ram};

const AT: u32 = 0x10_0000;
pub(crate) const ENTRY: u64 = 0x10_0040;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().copied().flat_map(u32::to_le_bytes).collect()
}

fn header(flags: u32, addresses: &[u32]) -> Vec<u8> {
    let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(flags);
    words(&[&[MAGIC, flags, checksum], addresses].concat())
}

/// A flat file: its header, some code, 4 KiB of zeroes behind it.
pub(crate) fn flat() -> Vec<u8> {
    let mut file = header(ADDRESSES | GRANTED, &[AT, AT, 0, AT + 0x2000, ENTRY as u32]);
    file.resize(0x1000, 0x90);
    file
}

/// The same as an ELF file of 32 bits.
fn elf(flags: u32) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2u16, 3].map(u16::to_le_bytes).concat());
    file.extend(words(&[1, ENTRY as u32, 52, 0, 0]));
    file.extend([52u16, 32, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    file.extend(words(&[LOAD, 0x1000, 0xc010_0000, AT, 0x1000, 0x2000, 7, 4096]));
    file.resize(0x1000, 0);
    file.extend(header(flags, &[]));
    file.resize(0x2000, 0x90);
    file
}

fn try_load(bytes: &[u8]) -> Result<Loaded, BootError> {
    let file = file(bytes);
    let (memory, _) = ram(8 << 20);
    crate::load_kernel(&Image::new(&file, "kernel", &|| {})?, &memory, 8 << 20)
}

fn fault(bytes: &[u8]) -> String {
    try_load(bytes).unwrap_err().to_string()
}

#[test]
fn a_flat_file_goes_where_its_header_says() {
    let file = file(&flat());
    let (memory, _) = ram(8 << 20);
    let dirty = memory.check(GuestRange::new(AT.into(), 0x2000)).unwrap();
    dirty.copy_out(&[0xee; 0x2000]).unwrap();
    let image = Image::new(&file, "kernel", &|| {}).unwrap();
    let loaded = load(&image, None, &memory, 8 << 20).unwrap().unwrap();
    assert_eq!((loaded.entry, loaded.end), (ENTRY, u64::from(AT) + 0x2000));
    let mut expected = flat();
    expected.resize(0x2000, 0);
    assert!(bytes(&memory, AT.into(), 0x2000) == expected);
}

#[test]
fn an_elf_file_goes_where_its_segments_say() {
    for flags in [0, 1, 2, 3] {
        let loaded = try_load(&elf(flags)).unwrap();
        assert_eq!((loaded.entry, loaded.end), (ENTRY, u64::from(AT) + 0x2000));
        assert_eq!(loaded.protocol, Protocol::Multiboot);
    }
}

#[test]
fn a_header_may_lie_anywhere_in_the_first_8_kib_on_a_multiple_of_four() {
    let moved = |by: u32| {
        let mut file = vec![0; by as usize];
        let at = AT + by;
        file.extend(header(ADDRESSES, &[at, AT, 0, 0, AT + by + 32]));
        file.resize(0x4000, 0x90);
        file
    };
    assert_eq!(try_load(&moved(8160)).unwrap().entry, u64::from(AT) + 8192);
    for by in [1, 2, 3, 8164, 8192] {
        assert!(matches!(try_load(&moved(by)), Err(BootError::NotAKernel)), "{by}");
    }
}

#[test]
fn a_kernel_of_32_bits_without_a_header_is_called_so() {
    let mut kernel = elf(0);
    kernel[0x1000] = 0;
    assert!(matches!(try_load(&kernel), Err(BootError::NoMultiboot)));
}

#[test]
fn a_vmlinux_of_64_bits_is_started_by_its_own_entry_even_with_a_header() {
    let mut kernel = crate::elf::tests::kernel();
    kernel[0x1000..0x1020].copy_from_slice(&flat()[..32]);
    assert_eq!(try_load(&kernel).unwrap().protocol, Protocol::Pvh);
    let owner = kernel.windows(4).position(|window| window == b"Xen\0").unwrap();
    kernel[owner] = b'Y';
    assert_eq!(try_load(&kernel).unwrap().protocol, Protocol::Multiboot);
}

#[test]
fn demands_that_cannot_be_met_are_named() {
    assert!(fault(&elf(VIDEO)).contains("a video mode (flags 0x4)"));
    assert!(fault(&elf(1 << 9)).contains("what nobody has defined (flags 0x200)"));
}

#[test]
fn addresses_that_contradict_each_other_or_the_file_are_damage() {
    let with = |addresses: [u32; 5]| {
        let mut file = header(ADDRESSES, &addresses);
        file.resize(0x1000, 0x90);
        fault(&file)
    };
    assert!(with([AT, AT + 4, 0, 0, AT]).contains("not where it says"));
    assert!(with([AT + 4, AT, 0, 0, AT]).contains("not where it says"));
    assert!(with([AT, AT, AT - 1, 0, AT]).contains("ends before it begins"));
    assert!(with([AT, AT, 0, AT - 1, AT]).contains("ends before it begins"));
    assert!(with([AT, AT, AT + 0x1001, 0, AT]).contains("outside of the file"));
    assert!(with([AT, AT, 0, AT + 0xfff, AT]).contains("longer in the file"));
    assert!(with([AT, AT, 0, 0, AT + 0x1000]).contains("entry lies in no segment"));
    assert!(with([0x1000, 0x1000, 0, 0, 0x1000]).contains("first MiB"));
    assert!(with([AT, AT, 0, u32::MAX, AT]).contains("MiB of RAM"));
}
