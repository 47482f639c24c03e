use super::*;
use crate::tests::{bytes, ram};

fn long(memory: &GuestMemory, address: u64) -> u64 {
    u64::from_le_bytes(bytes(memory, address, 8).try_into().unwrap())
}

#[test]
fn the_descriptors_in_memory_are_those_in_the_registers() {
    let (memory, _) = ram(2 << 20);
    let mut state = VcpuState::default();
    prepare_linux64(&memory, 0x10_0200).unwrap().apply(&mut state);
    assert_eq!(long(&memory, DESCRIPTORS + 0x10), 0x00af_9b00_0000_ffff);
    assert_eq!(long(&memory, DESCRIPTORS + 0x18), 0x00cf_9300_0000_ffff);
    assert_eq!(state.sregs.cs.selector, 0x10);
    assert_eq!((state.sregs.cs.l, state.sregs.cs.db), (1, 0));
    prepare_pvh(&memory, 0x10_0000).unwrap().apply(&mut state);
    assert_eq!(long(&memory, DESCRIPTORS + 0x10), 0x00cf_9b00_0000_ffff);
    assert_eq!((state.sregs.cs.l, state.sregs.cs.db), (0, 1));
}

#[test]
fn pvh_starts_without_paging_and_linux_in_long_mode() {
    let (memory, _) = ram(2 << 20);
    let mut pvh = VcpuState::default();
    prepare_pvh(&memory, 0x123).unwrap().apply(&mut pvh);
    assert_eq!((pvh.regs.rip, pvh.regs.rbx, pvh.regs.rflags), (0x123, START_INFO, 2));
    assert_eq!((pvh.sregs.cr0 & CR0_PAGING, pvh.sregs.efer), (0, 0));
    let mut linux = VcpuState::default();
    prepare_linux64(&memory, 0x123).unwrap().apply(&mut linux);
    assert_eq!((linux.regs.rip, linux.regs.rsi), (0x123, ZERO_PAGE));
    assert_eq!(linux.sregs.cr0 & (CR0_PAGING | CR0_PROTECTED), CR0_PAGING | CR0_PROTECTED);
    assert_eq!(linux.sregs.efer, EFER_LONG_MODE);
}

#[test]
fn power_on_bits_of_cr0_that_switch_caches_off_are_cleared() {
    let (memory, _) = ram(2 << 20);
    let mut state = VcpuState::default();
    state.sregs.cr0 = 0x6000_0010;
    prepare_pvh(&memory, 0).unwrap().apply(&mut state);
    assert_eq!(state.sregs.cr0, 0x11);
}

#[test]
fn the_page_tables_map_four_gib_to_themselves() {
    let (memory, _) = ram(2 << 20);
    prepare_linux64(&memory, 0).unwrap();
    for address in [0u64, 0x1234_5678, 0xffff_ffff, 2 << 30] {
        let mut table = PAGE_TABLES;
        for shift in [39, 30] {
            let entry = long(&memory, table + 8 * (address >> shift & 0x1ff));
            assert_eq!(entry & 3, 3);
            table = entry & !0xfff;
        }
        let entry = long(&memory, table + 8 * (address >> 21 & 0x1ff));
        assert_eq!(entry, address & !(LARGE_PAGE_LEN - 1) | LARGE_PAGE);
    }
    assert_eq!(long(&memory, PAGE_TABLES + 8), 0, "and nothing else");
}
