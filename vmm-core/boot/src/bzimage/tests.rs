use super::*;
use crate::tests::{bytes, file, ram};

pub(crate) const PREFERRED: u64 = 0x100_0000;
const INIT_SIZE: u32 = 0x10_0000;
const SETUP: usize = 2 * 512;
const CODE_LEN: usize = 0x1000;

const SETUP_SECTORS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const VERSION: usize = 0x206;
const LOADFLAGS: usize = 0x211;
const XLOADFLAGS: usize = 0x236;
const PREF_ADDRESS: usize = 0x258;
const INIT: usize = 0x260;

/// A small bzImage: two sectors, a page of code, and a signature behind it.
pub(crate) fn kernel() -> Vec<u8> {
    let mut file = vec![0; SETUP];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(SETUP_SECTORS, &[1]);
    put(SYSSIZE, &(CODE_LEN as u32 / 16).to_le_bytes());
    put(0x1fe, &BOOT_FLAG.to_le_bytes());
    put(0x202, b"HdrS");
    put(VERSION, &0x020fu16.to_le_bytes());
    put(LOADFLAGS, &[LOADED_HIGH]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(XLOADFLAGS, &KERNEL_64.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(PREF_ADDRESS, &PREFERRED.to_le_bytes());
    put(INIT, &INIT_SIZE.to_le_bytes());
    file.extend([0xcc; CODE_LEN]);
    file.extend(b"signature");
    file
}

fn try_load(bytes: &[u8], ram_end: u64) -> Result<Loaded, BootError> {
    let file = file(bytes);
    let (memory, _) = ram(ram_end);
    load(&Image::new(&file, "kernel", &|| {})?, &memory, ram_end)
}

fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut kernel = kernel();
    kernel[at..at + bytes.len()].copy_from_slice(bytes);
    kernel
}

#[test]
fn the_program_goes_to_its_preferred_address_without_what_follows_it() {
    let file = file(&kernel());
    let (memory, _) = ram(32 << 20);
    let loaded = load(&Image::new(&file, "kernel", &|| {}).unwrap(), &memory, 32 << 20).unwrap();
    assert_eq!(loaded.entry, PREFERRED + 0x200);
    assert_eq!(loaded.end, PREFERRED + u64::from(INIT_SIZE));
    assert_eq!((loaded.initrd_max, loaded.command_line_max), (0x7fff_ffff, 2047));
    assert!(bytes(&memory, PREFERRED, CODE_LEN) == [0xcc; CODE_LEN]);
    assert_eq!(bytes(&memory, PREFERRED + CODE_LEN as u64, 4), [0; 4]);
}

#[test]
fn old_protocols_and_32_bit_kernels_are_named() {
    let error = try_load(&with(VERSION, &[0x0b, 2]), 32 << 20).unwrap_err();
    assert!(error.to_string().contains("boot protocol 2.11"), "{error}");
    assert!(matches!(
        try_load(&with(XLOADFLAGS, &[2]), 32 << 20),
        Err(BootError::No64BitEntry { .. })
    ));
}

#[test]
fn an_image_for_low_memory_is_no_kernel_of_today() {
    assert!(matches!(try_load(&with(LOADFLAGS, &[0]), 32 << 20), Err(BootError::NotAKernel)));
}

#[test]
fn a_file_shorter_than_its_header_says_is_damaged() {
    let longer = (CODE_LEN as u32 / 16 + 2).to_le_bytes();
    let error = try_load(&with(SYSSIZE, &longer), 32 << 20).unwrap_err();
    assert!(error.to_string().contains("shorter than its header says"), "{error}");
    let error = try_load(&with(SETUP_SECTORS, &[64]), 32 << 20).unwrap_err();
    assert!(error.to_string().contains("within its setup code"), "{error}");
}

#[test]
fn it_needs_ram_for_unpacking_and_says_how_much() {
    let end = PREFERRED + u64::from(INIT_SIZE);
    assert!(try_load(&kernel(), end).is_ok());
    let error = try_load(&kernel(), end - 4096).unwrap_err();
    assert!(matches!(error, BootError::KernelDoesNotFit { needed, .. } if needed == end));
}

#[test]
fn an_address_that_overflows_is_damage() {
    let error = try_load(&with(PREF_ADDRESS, &[0xff; 8]), 32 << 20).unwrap_err();
    assert!(error.to_string().contains("beyond 64 bits"), "{error}");
}

#[test]
fn an_address_in_the_first_mib_is_not_followed() {
    let loaded = try_load(&with(PREF_ADDRESS, &[0; 8]), 32 << 20).unwrap();
    assert_eq!(loaded.entry, 0x10_0200);
}
