//! Tables of each mode, and hostile ones.

use bulkhead_memory::{Grant, RamLayout, Rights};

use super::*;
use crate::debugger::memory::{read, write};

const RAM: u64 = 4 << 20;

fn ram() -> GuestMemory {
    let layout = RamLayout::new(RAM).unwrap();
    let object = bulkhead_sys::memfd::create_sealed("ram", RAM).unwrap();
    Grant::whole(&layout, Rights::ReadWrite).map(&object).unwrap()
}

fn put(memory: &GuestMemory, address: u64, word: u64) {
    memory.check(GuestRange::new(address, 8)).unwrap().write_obj(0, word).unwrap();
}

fn put_half(memory: &GuestMemory, address: u64, word: u32) {
    memory.check(GuestRange::new(address, 4)).unwrap().write_obj(0, word).unwrap();
}

fn long() -> kvm_sregs {
    kvm_sregs { cr0: PAGING, cr3: 0x1000, cr4: PAE, efer: LONG, ..Default::default() }
}

/// A kernel's top half: the last gigabyte but one to page 0x9000 and a large page at 2 MiB.
fn kernel(memory: &GuestMemory) {
    put(memory, 0x1ff8, 0x2003);
    put(memory, 0x2ff0, 0x3003);
    put(memory, 0x3000, 0x4003);
    put(memory, 0x3008, 0x20_0083);
    put(memory, 0x4000, 0x9003);
}

const KERNEL: u64 = 0xffff_ffff_8000_0000;

#[test]
fn without_paging_linear_is_physical() {
    let at = |linear| translate(&ram(), &kvm_sregs::default(), linear);
    assert_eq!((at(0x1234), at(0x1_0000_1234)), (Some(0x1234), Some(0x1234)));
}

#[test]
fn four_levels_lead_to_small_and_large_pages() {
    let memory = ram();
    kernel(&memory);
    let at = |linear| translate(&memory, &long(), linear);
    assert_eq!(at(KERNEL + 0x123), Some(0x9123));
    assert_eq!(at(KERNEL + 0x2a_bcde), Some(0x2a_bcde));
    assert_eq!(at(KERNEL + 0x1000), None, "not present");
    assert_eq!(at(KERNEL & 0x0000_ffff_ffff_ffff), None, "not canonical");
    let five = kvm_sregs { cr4: PAE | FIVE, ..long() };
    put(&memory, 0x1000, 0x6003);
    put(&memory, 0x6000, 0x2003);
    assert_eq!(translate(&memory, &five, 0x80_0000_0000 - 0x8000_0000), Some(0x9000));
}

#[test]
fn two_and_three_levels_lead_to_pages() {
    let memory = ram();
    let old = kvm_sregs { cr0: PAGING, cr3: 0x1000, cr4: LARGE, ..Default::default() };
    put_half(&memory, 0x1000 + 4 * 0x300, 0x2003);
    put_half(&memory, 0x2004, 0x9003);
    put_half(&memory, 0x1000 + 4 * 0x301, 0x0040_0083);
    assert_eq!(translate(&memory, &old, 0xc000_1234), Some(0x9234));
    assert_eq!(translate(&memory, &old, 0xc041_2345), Some(0x0041_2345));
    assert_eq!(translate(&memory, &old, 0x1234), None);
    let pae = kvm_sregs { cr0: PAGING, cr3: 0x6020, cr4: PAE, ..Default::default() };
    put(&memory, 0x6020 + 8 * 3, 0x7001);
    put(&memory, 0x7000, 0x8003);
    put(&memory, 0x8008, 0xa003);
    assert_eq!(translate(&memory, &pae, 0xc000_1234), Some(0xa234));
    assert_eq!(translate(&memory, &pae, 0x1234), None);
}

#[test]
fn tables_outside_of_ram_and_loops_end() {
    let memory = ram();
    for root in [RAM, u64::MAX, 0x000f_ffff_ffff_f000, RAM - 0x1000] {
        let sregs = kvm_sregs { cr3: root, ..long() };
        assert_eq!(translate(&memory, &sregs, KERNEL), None, "{root:#x}");
    }
    // A table that is its own: the last level's page is the table itself.
    put(&memory, 0x1000, 0x1003);
    assert_eq!(translate(&memory, &long(), 0x10), Some(0x1010));
    put(&memory, 0x1000, u64::MAX);
    assert_eq!(translate(&memory, &long(), 0), None);
}

#[test]
fn any_tables_at_all_panic_nowhere() {
    let memory = ram();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for address in (0..0x1_0000).step_by(8) {
        // Half of them lead into RAM, so that walks get deep.
        let word = random();
        put(&memory, address, if word & 2 == 0 { word & 0xf0ff | 1 } else { word });
    }
    for _ in 0..200_000 {
        let sregs = kvm_sregs {
            cr0: random() & PAGING,
            cr3: random() & if random() & 1 == 0 { 0xf000 } else { u64::MAX },
            cr4: random() & (PAE | LARGE | FIVE),
            efer: random() & LONG,
            ..Default::default()
        };
        let address = random() >> (random() % 64);
        let bytes = read(&memory, &sregs, address, 9000);
        assert!(bytes.is_none_or(|bytes| bytes.len() <= 9000));
    }
}

#[test]
fn reads_are_as_long_as_memory_is_mapped_and_writes_whole() {
    let memory = ram();
    kernel(&memory);
    assert_eq!(
        write(&memory, &long(), KERNEL + 0xff0, b"sixteen bytes!!!"),
        Some(vec![(0x9ff0, 16)])
    );
    assert_eq!(read(&memory, &long(), KERNEL + 0xff0, 100).unwrap(), b"sixteen bytes!!!");
    assert_eq!(write(&memory, &long(), KERNEL + 0xff8, b"too long to fit"), None);
    assert_eq!(read(&memory, &long(), KERNEL + 0xff8, 8).unwrap(), b"bytes!!!");
    assert_eq!(read(&memory, &long(), KERNEL + 0x1000, 1), None);
    let none = kvm_sregs::default();
    assert_eq!(read(&memory, &none, RAM - 2, 4).unwrap().len(), 2, "as far as there is RAM");
    assert_eq!(read(&memory, &none, u64::MAX - 3, 100), None);
    assert_eq!(write(&memory, &none, u64::MAX - 3, &[0; 8]), None);
    assert_eq!(write(&memory, &none, 0, &vec![0; MOST_WRITE + 1]), None);
    assert_eq!(write(&memory, &none, 0xffc, &[1; 8]), Some(vec![(0xffc, 4), (0x1000, 4)]));
}

const MOST_WRITE: usize = bulkhead_protocol::gdb::MOST_BYTES;
