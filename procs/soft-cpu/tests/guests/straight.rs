//! Runs of instructions that a compiler may treat as one: each still does what it does alone.

use bulkhead_hypervisor::Msi;
use iced_x86::code_asm::*;

use crate::stage::*;

const HANDLER: u64 = 0xc000;

/// Says error code, RIP, CS, RFLAGS and RSP of a page fault.
fn tell_fault(guest: &Guest) {
    let handler = assemble(64, HANDLER, |code| {
        for _ in 0..5 {
            code.pop(rax)?;
            say(code)?;
        }
        done(code)
    });
    guest.put(HANDLER, &handler);
    guest.gate(14, HANDLER, 0);
}

/// Fields on both sides of the end of a page, of which the second is missing: what comes before the fault has
/// happened, and nothing behind it.
#[test]
fn of_fields_in_two_pages_the_first_are_reached_before_the_fault() {
    let code = assemble(64, CODE, |code| {
        code.mov(rbx, 0x10_0ff0u64)?;
        code.mov(ecx, dword_ptr(rbx))?;
        code.add(ecx, 1)?;
        code.mov(dword_ptr(rbx + 4), ecx)?;
        code.cmp(ecx, ecx)?;
        code.mov(dword_ptr(rbx + 0x10), ecx)?;
        code.mov(dword_ptr(rbx + 8), ecx)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    tell_fault(&guest);
    guest.put_word(0x10_0ff0, 41);
    guest.put_word(Guest::entry_of(0x10_1000), 0);
    let (words, end) = guest.words();
    let at_fault = words[1] - CODE as u32;
    assert_eq!((words[0], end), (2, End::Done), "a write to where nothing is");
    assert_eq!(code[at_fault as usize..][..3], [0x89, 0x4b, 0x10]);
    assert_eq!(words[3] & 0x44, 0x44, "the flags of the comparison");
    assert_eq!(guest.word(0x10_0ff0), 42 << 32 | 41);
    assert_eq!(guest.word(0x10_0ff8), 0, "what is behind the fault has not happened");
}

#[test]
fn of_pops_from_two_pages_the_one_that_faults_moves_nothing() {
    let code = assemble(64, CODE, |code| {
        code.mov(rsp, 0x10_0ff0u64)?;
        code.pop(rbx)?;
        code.pop(rcx)?;
        code.pop(rdx)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    tell_fault(&guest);
    guest.put_word(Guest::entry_of(0x10_1000), 0);
    let (words, end) = guest.words();
    assert_eq!((words[0], words[4], end), (0, 0x10_1000, End::Done));
}

#[test]
fn the_stack_pointer_is_followed_wherever_it_is_moved_to() {
    let code = assemble(64, CODE, |code| {
        code.mov(ebx, 7u32)?;
        code.push(rbx)?;
        code.sub(rsp, 0x18)?;
        code.mov(dword_ptr(rsp + 8), ebx)?;
        code.push(8)?;
        code.mov(eax, dword_ptr(rsp + 0x10))?; // what was stored at 8 before the push
        say(code)?;
        code.pop(rcx)?;
        code.add(rsp, 0x18)?;
        code.pop(rax)?;
        code.add(eax, ecx)?;
        say(code)?;
        code.mov(rbp, rsp)?;
        code.push(qword_ptr(0x10_0000))?;
        code.mov(rsp, rbp)?;
        code.mov(eax, dword_ptr(rsp - 8))?;
        say(code)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put_word(0x10_0000, 99);
    assert_eq!(guest.words(), (vec![7, 15, 99], End::Done));
}

/// Interrupts are open for one instruction only, again and again: who waits gets in.
#[test]
fn an_interrupt_gets_in_between_sti_and_cli() {
    let code = assemble(64, CODE, |code| {
        let mut again = code.create_label();
        code.mov(ebx, 0xfee0_00f0u32)?;
        code.mov(dword_ptr(rbx), 0x1ff)?;
        code.mov(ecx, 0u32)?;
        say(code)?;
        code.set_label(&mut again)?;
        code.sti()?;
        code.nop()?;
        code.cli()?;
        code.test(ecx, ecx)?;
        code.jz(again)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put_word(TABLES + 0x1000 + 8 * 3, 0x21_0007);
    guest.put_word(0x21_0000 + 8 * 0x1f7, 0xfee0_0087);
    let handler = assemble(64, HANDLER, |code| {
        code.inc(ecx)?;
        code.iretq()
    });
    guest.put(HANDLER, &handler);
    guest.gate(0x50, HANDLER, 0);
    let said = guest.vcpu.run().unwrap();
    assert!(matches!(said, bulkhead_hypervisor::Exit::PioOut { port: 0x80, .. }));
    guest.vm.signal_msi(Msi { address: 0xfee0_0000, data: 0x50 }).unwrap();
    assert_eq!(guest.words(), (vec![], End::Done));
}

/// Its second half is in a page that is another one each time.
#[test]
fn an_instruction_across_pages_is_what_both_pages_say_now() {
    let callee = 0x9ffeu64;
    let code = assemble(64, CODE, |code| {
        for page in [0xa000, 0xb000, 0xa000, 0xb000] {
            code.mov(dword_ptr(Guest::entry_of(0xa000)), page | 7)?;
            code.invlpg(byte_ptr(0xa000))?;
            code.mov(ebp, 3u32)?;
            let mut again = code.create_label();
            code.set_label(&mut again)?;
            code.call(callee)?;
            code.dec(ebp)?;
            code.jnz(again)?;
            say(code)?;
        }
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put(callee, &[0xb8, 0x01, 0, 0, 0, 0xc3]); // mov eax, 1; ret
    guest.put(0xb000, &[0x02, 0, 0, 0xc3]);
    assert_eq!(guest.words(), (vec![0x01, 0x201, 0x01, 0x201], End::Done));
}

#[test]
fn flags_are_pushed_as_comparisons_leave_them() {
    let pairs: [(u32, u32); 6] =
        [(0, 0), (1, 2), (0x8000_0000, 1), (0x7fff_ffff, u32::MAX), (0x10, 1), (3, 0)];
    let code = assemble(64, CODE, |code| {
        for (a, b) in pairs {
            code.mov(eax, a)?;
            code.mov(ecx, b)?;
            code.cmp(eax, ecx)?;
            code.pushfq()?;
            code.cli()?;
            code.pop(rax)?;
            say(code)?;
        }
        done(code)
    });
    let expected = pairs.map(|(a, b)| {
        let result = a.wrapping_sub(b);
        let is = |flag: bool, bit: u32| u32::from(flag) << bit;
        2 | is(a < b, 0)
            | is((result as u8).count_ones().is_multiple_of(2), 2)
            | is(a & 15 < b & 15, 4)
            | is(result == 0, 6)
            | is((result as i32) < 0, 7)
            | is((a as i32).overflowing_sub(b as i32).1, 11)
    });
    assert_eq!(Guest::long(&code).words(), (expected.to_vec(), End::Done));
}

#[test]
fn the_counter_is_what_was_written_to_it_and_goes_on() {
    let code = assemble(64, CODE, |code| {
        code.mov(ecx, 0x10u32)?;
        code.mov(eax, 0u32)?;
        code.mov(edx, 0x1234u32)?;
        code.wrmsr()?;
        code.mov(ecx, 0xc000_0103u32)?;
        code.mov(eax, 77u32)?;
        code.mov(edx, 0u32)?;
        code.wrmsr()?;
        code.rdtsc()?;
        code.mov(ebx, eax)?;
        code.mov(esi, edx)?;
        code.rdtscp()?;
        code.sub(eax, ebx)?;
        code.sbb(edx, esi)?;
        code.mov(eax, edx)?; // the difference's upper half
        say(code)?;
        code.mov(eax, esi)?;
        say(code)?;
        code.mov(eax, ecx)?;
        say(code)?;
        done(code)
    });
    assert_eq!(Guest::long(&code).words(), (vec![0, 0x1234, 77], End::Done));
}

#[test]
fn selectors_are_stored_in_registers_of_each_width() {
    let code = assemble(64, CODE, |code| {
        code.mov(rax, -1i64)?;
        code.mov(ax, ds)?;
        say(code)?;
        code.mov(r10, -1i64)?;
        code.mov(r10d, es)?;
        code.mov(rax, r10)?;
        say(code)?;
        code.shr(rax, 32)?;
        say(code)?;
        done(code)
    });
    let data = u32::from(DATA);
    let expected = vec![0xffff_0000 | data, data, 0];
    assert_eq!(Guest::long(&code).words(), (expected, End::Done));
}
