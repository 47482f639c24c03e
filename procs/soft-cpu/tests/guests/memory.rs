//! Paging, and accesses where no RAM is.

use bulkhead_hypervisor::Exit;
use iced_x86::code_asm::*;

use crate::stage::*;

const HANDLER: u64 = 0x9000;

/// Runs code at level 0 with these bits of CR4 and the entry of page 0x100000 as given; the error code and
/// address of the page fault, if there was one.
fn fault_of(features: u64, entry: u64, code: &[u8]) -> Option<(u32, u32)> {
    let mut guest = Guest::long(code);
    // All else is the kernel's, so that SMEP and SMAP leave it alone.
    for page in 0..16u64 {
        guest.put_word(Guest::entry_of(page << 12), page << 12 | 3);
    }
    guest.put_word(Guest::entry_of(0x10_0000), entry);
    let mut state = guest.vcpu.state().unwrap();
    state.sregs.cr4 |= features;
    guest.vcpu.set_state(&state).unwrap();
    let handler = assemble(64, HANDLER, |code| {
        code.pop(rax)?;
        say(code)?;
        code.mov(rax, cr2)?;
        say(code)?;
        done(code)
    });
    guest.put(HANDLER, &handler);
    guest.gate(14, HANDLER, 0);
    match &guest.words().0[..] {
        [] => None,
        [code, address] => Some((*code, *address)),
        other => panic!("{other:x?}"),
    }
}

fn read() -> Vec<u8> {
    assemble(64, CODE, |code| {
        code.mov(eax, dword_ptr(0x10_0000))?;
        done(code)
    })
}

fn write() -> Vec<u8> {
    assemble(64, CODE, |code| {
        code.mov(dword_ptr(0x10_0000), eax)?;
        done(code)
    })
}

fn execute() -> Vec<u8> {
    assemble(64, CODE, |code| {
        code.mov(eax, 0x10_0000u32)?;
        code.call(rax)?;
        done(code)
    })
}

const SMEP: u64 = 1 << 20;
const SMAP: u64 = 1 << 21;
const NO_EXECUTE: u64 = 1 << 63;

#[test]
fn pages_permit_what_their_entries_say() {
    assert_eq!(fault_of(0, 0x10_0003, &read()), None);
    assert_eq!(fault_of(0, 0x10_0002, &read()), Some((0, 0x10_0000)), "not present");
    assert_eq!(fault_of(0, 0x10_0001, &write()), Some((3, 0x10_0000)), "CR0.WP");
    let reserved = 0x10_0003 | 1 << 50;
    assert_eq!(fault_of(0, reserved, &read()), Some((9, 0x10_0000)), "reserved bit");
    assert_eq!(fault_of(0, 0x10_0003 | NO_EXECUTE, &execute()), Some((17, 0x10_0000)));
    assert_eq!(fault_of(SMEP, 0x10_0007, &execute()), Some((17, 0x10_0000)));
    assert_eq!(fault_of(SMAP, 0x10_0003, &read()), None);
}

#[test]
fn user_pages_are_closed_to_the_kernel_by_smap() {
    // All pages of these guests are the user's: SMAP would close the stack and code's data too, so the
    // handler's stack must be the kernel's.
    let code = assemble(64, CODE, |code| {
        code.mov(rax, cr4)?;
        code.or(eax, SMAP as i32)?;
        code.mov(cr4, rax)?;
        code.stac()?;
        code.mov(ebx, dword_ptr(0x10_0000))?;
        code.clac()?;
        code.mov(ebx, dword_ptr(0x10_0000))?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    for page in 0..16u64 {
        guest.put_word(Guest::entry_of(page << 12), page << 12 | 3);
    }
    let handler = assemble(64, HANDLER, |code| {
        code.pop(rax)?;
        say(code)?;
        code.pop(rax)?;
        code.sub(eax, CODE as i32)?;
        say(code)?;
        done(code)
    });
    guest.put(HANDLER, &handler);
    guest.gate(14, HANDLER, 0);
    let second = code.len() as u32 - 2 - 7;
    assert_eq!(guest.words(), (vec![1, second], End::Done));
}

#[test]
fn a_changed_entry_is_seen_after_invlpg() {
    let code = assemble(64, CODE, |code| {
        code.mov(eax, dword_ptr(0x10_0000))?;
        say(code)?;
        code.mov(rbx, qword_ptr(Guest::entry_of(0x10_0000)))?;
        code.add(rbx, 0x1000)?;
        code.mov(qword_ptr(Guest::entry_of(0x10_0000)), rbx)?;
        code.invlpg(byte_ptr(0x10_0000))?;
        code.mov(eax, dword_ptr(0x10_0000))?;
        say(code)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put_word(0x10_0000, 0x111);
    guest.put_word(0x10_1000, 0x222);
    assert_eq!(guest.words(), (vec![0x111, 0x222], End::Done));
}

#[test]
fn a_read_modify_write_where_no_ram_is_reads_once_and_writes_once() {
    let code = assemble(64, CODE, |code| {
        code.mov(ebx, 0xd000_0000u32)?;
        code.stc()?;
        code.adc(dword_ptr(rbx + 8), 5)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put_word(TABLES + 0x1000 + 3 * 8, 0x21_0007);
    guest.put_word(0x21_0000 + 0x80 * 8, 0xd000_0087);
    let Exit::MmioRead { address: 0xd000_0008, data } = guest.vcpu.run().unwrap() else { panic!() };
    data.copy_from_slice(&10u32.to_le_bytes());
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::MmioWrite { address: 0xd000_0008, data: &16u32.to_le_bytes() });
    assert_eq!(guest.words(), (vec![], End::Done));
}

#[test]
fn a_string_instruction_stops_at_the_fault_and_goes_on() {
    let code = assemble(64, CODE, |code| {
        code.mov(esi, 0x10_0000u32)?;
        code.mov(edi, 0x10_7ff0u32)?;
        code.mov(ecx, 0x40u32)?;
        code.rep().movsb()?;
        code.mov(eax, ecx)?;
        say(code)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put(0x10_0000, &(0..64).collect::<Vec<u8>>());
    guest.put_word(Guest::entry_of(0x10_8000), 0);
    let handler = assemble(64, HANDLER, |code| {
        code.mov(eax, ecx)?;
        say(code)?;
        code.mov(eax, edi)?;
        say(code)?;
        code.mov(dword_ptr(Guest::entry_of(0x10_8000)), 0x10_8007)?;
        code.add(rsp, 8)?;
        code.iretq()
    });
    guest.put(HANDLER, &handler);
    guest.gate(14, HANDLER, 0);
    assert_eq!(guest.words(), (vec![0x30, 0x10_8000, 0], End::Done));
    assert_eq!(guest.word(0x10_8000), 0x1716_1514_1312_1110);
}
