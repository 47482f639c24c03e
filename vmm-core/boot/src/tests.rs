use std::fs::File;
use std::io::Write;

use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_memory::{Grant, GuestMemory, GuestRange, RamLayout, Rights};
use proptest::prelude::*;

use super::*;

/// A file with these bytes.
pub(crate) fn file(bytes: &[u8]) -> File {
    let mut file =
        File::from(bulkhead_sys::memfd::create_sealed("file", bytes.len() as u64).unwrap());
    file.write_all(bytes).unwrap();
    file
}

/// Fresh RAM.
pub(crate) fn ram(total: u64) -> (GuestMemory, RamLayout) {
    let layout = RamLayout::new(total).unwrap();
    let object = bulkhead_sys::memfd::create_sealed("ram", total).unwrap();
    (Grant::whole(&layout, Rights::ReadWrite).map(&object).unwrap(), layout)
}

pub(crate) fn bytes(memory: &GuestMemory, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.check(GuestRange::new(address, len as u64)).unwrap().copy_in(&mut bytes).unwrap();
    bytes
}

fn word(memory: &GuestMemory, address: u64) -> u32 {
    u32::from_le_bytes(bytes(memory, address, 4).try_into().unwrap())
}

fn long(memory: &GuestMemory, address: u64) -> u64 {
    u64::from_le_bytes(bytes(memory, address, 8).try_into().unwrap())
}

fn boot(
    kernel: &[u8],
    initrd: Option<&[u8]>,
    total: u64,
) -> (Result<Entry, BootError>, GuestMemory) {
    let (memory, layout) = ram(total);
    let kernel = file(kernel);
    let initrd = initrd.map(file);
    let boot = Boot {
        kernel: &kernel,
        initrd: initrd.as_ref(),
        command_line: "console=ttyS0 quiet",
        memory: &memory,
        layout: &layout,
        cpus: 2,
        breathe: &|| {},
    };
    (load(&boot), memory)
}

#[test]
fn a_pvh_kernel_finds_its_start_info() {
    let kernel = elf::tests::kernel();
    let (entry, memory) = boot(&kernel, Some(b"initrd"), 8 << 20);
    assert_eq!(entry.unwrap().instruction(), elf::tests::ENTRY);
    let info = places::START_INFO;
    assert_eq!((word(&memory, info), word(&memory, info + 4)), (0x336e_c578, 1));
    assert_eq!(word(&memory, info + 12), 1, "modules");
    assert_eq!(bytes(&memory, long(&memory, info + 24), 20), b"console=ttyS0 quiet\0");
    assert_eq!(bytes(&memory, long(&memory, info + 32), 8), b"RSD PTR ");
    let module = long(&memory, info + 16);
    assert_eq!(bytes(&memory, long(&memory, module), 6), b"initrd");
    assert_eq!(long(&memory, module + 8), 6);
    let map = long(&memory, info + 40);
    assert_eq!(word(&memory, info + 48), 4);
    assert_eq!(
        (long(&memory, map), long(&memory, map + 8), word(&memory, map + 16)),
        (0, 0x9fc00, 1)
    );
}

#[test]
fn without_an_initrd_there_is_no_module() {
    let (entry, memory) = boot(&elf::tests::kernel(), None, 8 << 20);
    entry.unwrap();
    assert_eq!(word(&memory, places::START_INFO + 12), 0);
    assert_eq!(long(&memory, places::START_INFO + 16), 0);
}

#[test]
fn a_bzimage_finds_its_zero_page() {
    let (entry, memory) = boot(&bzimage::tests::kernel(), Some(b"initrd"), 32 << 20);
    assert_eq!(entry.unwrap().instruction(), bzimage::tests::PREFERRED + 0x200);
    let page = places::ZERO_PAGE;
    assert_eq!(bytes(&memory, page + 0x202, 4), b"HdrS");
    assert_eq!(bytes(&memory, page + 0x210, 1), [0xff]);
    assert_eq!(bytes(&memory, word(&memory, page + 0x228).into(), 19), b"console=ttyS0 quiet");
    let initrd = word(&memory, page + 0x218);
    assert_eq!(bytes(&memory, initrd.into(), 6), b"initrd");
    assert_eq!(word(&memory, page + 0x21c), 6);
    assert_eq!(bytes(&memory, long(&memory, page + 0x70), 8), b"RSD PTR ");
    assert_eq!(bytes(&memory, page + 0x1e8, 1), [4]);
    assert_eq!((long(&memory, page + 0x2d0), long(&memory, page + 0x2d8)), (0, 0x9fc00));
}

#[test]
fn what_is_no_kernel_is_called_so() {
    let text = "not a kernel: neither ELF with a PVH note, nor bzImage, nor multiboot";
    for bytes in [&b""[..], b"x", b"#!/bin/sh\n", &[0; 4096]] {
        let (entry, _) = boot(bytes, None, 8 << 20);
        assert_eq!(entry.unwrap_err().to_string(), text);
    }
}

#[test]
fn a_machine_without_room_for_boot_data_is_refused() {
    let (entry, _) = boot(&elf::tests::kernel(), None, 1 << 20);
    assert!(matches!(entry, Err(BootError::TooLittleRam { .. })));
}

#[test]
fn booting_again_over_used_memory_gives_the_same_memory() {
    let kernel = file(&elf::tests::kernel());
    let (memory, layout) = ram(8 << 20);
    let boot = Boot {
        kernel: &kernel,
        initrd: None,
        command_line: "a",
        memory: &memory,
        layout: &layout,
        cpus: 1,
        breathe: &|| {},
    };
    load(&boot).unwrap();
    let first = bytes(&memory, 0, 2 << 20);
    // The first kernel's traces, except where firmware would not clean up either.
    memory.check(GuestRange::new(0x10_0000, 0x8000)).unwrap().copy_out(&[0xee; 0x8000]).unwrap();
    memory.check(GuestRange::new(0x6000, 0x9000)).unwrap().copy_out(&[0xee; 0x9000]).unwrap();
    load(&boot).unwrap();
    let info = places::START_INFO as usize;
    let second = bytes(&memory, 0, 2 << 20);
    assert!(first[info..info + 56] == second[info..info + 56]);
    let (segment, len) = (elf::tests::SEGMENT as usize, elf::tests::MEMORY_LEN as usize);
    assert!(first[segment..segment + len] == second[segment..segment + len], "bss included");
}

#[test]
fn the_caller_gets_a_word_in_while_files_are_read() {
    let (kernel, initrd) = (file(&elf::tests::kernel()), file(&vec![7; 5 << 20]));
    let (memory, layout) = ram(8 << 20);
    let breaths = std::cell::Cell::new(0);
    load(&Boot {
        kernel: &kernel,
        initrd: Some(&initrd),
        command_line: "",
        memory: &memory,
        layout: &layout,
        cpus: 1,
        breathe: &|| breaths.set(breaths.get() + 1),
    })
    .unwrap();
    assert!(breaths.get() >= 6, "{} breaths", breaths.get());
}

#[test]
fn every_refusal_names_an_option_and_a_remedy() {
    let (entry, _) = boot(b"", None, 8 << 20);
    let error = entry.unwrap_err();
    assert_eq!(error.option(), "--kernel");
    assert!(error.remedy().contains("bzImage"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_mutated_kernel_is_loaded_or_refused_but_never_more(
        flips in proptest::collection::vec((0..0x400usize, any::<u8>()), 1..12),
        cut in 0..9000usize,
        format in 0..3usize,
    ) {
        let formats = [elf::tests::kernel, bzimage::tests::kernel, multiboot::tests::flat];
        let mut kernel = formats[format]();
        for (at, value) in flips {
            if let Some(byte) = kernel.get_mut(at) {
                *byte = value;
            }
        }
        kernel.truncate(kernel.len().saturating_sub(cut / 3));
        let (entry, _) = boot(&kernel, Some(b"initrd"), 32 << 20);
        if let Ok(entry) = entry {
            prop_assert!((0x10_0000..32 << 20).contains(&entry.instruction()));
            entry.apply(&mut VcpuState::default());
        }
    }
}

#[test]
fn a_multiboot_kernel_finds_its_information() {
    let (entry, memory) = boot(&multiboot::tests::flat(), Some(b"initrd"), 8 << 20);
    let mut state = VcpuState::default();
    entry.unwrap().apply(&mut state);
    assert_eq!((state.regs.rip, state.regs.rax), (multiboot::tests::ENTRY, 0x2bad_b002));
    assert_eq!((state.sregs.cr0, state.sregs.cs.db), (0x11, 1));
    let info = state.regs.rbx;
    let at = |offset| u64::from(word(&memory, info + offset));
    assert_eq!(at(0), 0b10_0100_1101, "memory, command line, modules, map, loader");
    assert_eq!((at(4), at(8)), (639, 7 << 10));
    assert_eq!(bytes(&memory, at(16), 27), b"kernel console=ttyS0 quiet\0");
    let module = at(24);
    let range = [0, 4].map(|offset| u64::from(word(&memory, module + offset)));
    assert_eq!((at(20), range[1] - range[0]), (1, 6));
    assert_eq!(bytes(&memory, range[0], 6), b"initrd");
    assert_eq!(bytes(&memory, u64::from(word(&memory, module + 8)), 1), b"\0");
    assert_eq!(bytes(&memory, at(64), 9), b"Bulkhead\0");
    let (map, len) = (at(48), at(44));
    assert_eq!(len % 24, 0);
    let sum: u64 = (0..len / 24)
        .map(|line| map + 24 * line)
        .filter(|line| word(&memory, line + 20) == 1)
        .map(|line| long(&memory, line + 12))
        .sum();
    assert_eq!((word(&memory, map), sum), (20, (8 << 20) - (0x10_0000 - 0x9fc00)));
}
