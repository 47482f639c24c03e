//! Exceptions and interrupts find what the processor would have left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iced_x86::code_asm::*;

use crate::stage::*;

const HANDLER: u64 = 0x9000;

/// Says the words on the stack that an exception left: (error code,) RIP, CS, RFLAGS; then CR2.
fn frame_handler(words: usize) -> Vec<u8> {
    assemble(64, HANDLER, |code| {
        for _ in 0..words {
            code.pop(rax)?;
            say(code)?;
        }
        code.mov(rax, cr2)?;
        say(code)?;
        done(code)
    })
}

#[test]
fn a_page_fault_tells_where_and_why() {
    let code = assemble(64, CODE, |code| {
        code.mov(rbx, 0x10_0ffeu64)?;
        code.mov(eax, 7u32)?;
        code.mov(dword_ptr(rbx), eax)?; // crosses into a page that is read-only
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put(HANDLER, &frame_handler(4));
    guest.gate(14, HANDLER, 0);
    guest.put_word(Guest::entry_of(0x10_1000), 0x10_1005);
    let at = CODE as u32 + 12;
    let (words, end) = guest.words();
    // The 10 bytes of `mov rbx, imm64` may be 7 or 5: take RIP from the code itself.
    assert_eq!(words[0], 3, "present, write");
    assert_eq!(words[1] - CODE as u32, code.len() as u32 - 2 - 2, "RIP {at:#x}");
    assert_eq!((words[2], words[4], end), (CODE64.into(), 0x10_1000, End::Done));
    assert_eq!(guest.word(0x10_0ff8), 0, "nothing was written");
    assert_eq!(guest.word(Guest::entry_of(0x10_0000)) & 0x60, 0x60, "accessed and dirty");
}

#[test]
fn user_code_reaches_the_kernel_by_interrupt_and_comes_back() {
    let user = 0xa000u64;
    let code = assemble(64, CODE, |code| {
        for word in [USER_DATA.into(), 0x7800, 0x202, USER_CODE64.into(), user as i32] {
            code.push(word)?;
        }
        code.iretq()
    });
    let mut guest = Guest::long(&code);
    let user = assemble(64, user, |code| {
        code.mov(ebx, 0x77u32)?;
        code.int(0x40)?;
        code.hlt() // privileged: #GP
    });
    guest.put(0xa000, &user);
    let call = assemble(64, HANDLER, |code| {
        code.mov(eax, ebx)?;
        say(code)?;
        code.mov(rax, rsp)?;
        say(code)?;
        code.mov(rax, qword_ptr(rsp + 32))?;
        say(code)?;
        code.iretq()
    });
    guest.put(HANDLER, &call);
    let protection = assemble(64, 0xb000, |code| {
        code.pop(rax)?;
        say(code)?;
        code.pop(rax)?;
        say(code)?;
        done(code)
    });
    guest.put(0xb000, &protection);
    guest.gate(0x40, HANDLER, 3);
    guest.gate(13, 0xb000, 0);
    let (words, end) = guest.words();
    let frame = KERNEL_STACK as u32 - 40;
    let hlt = 0xa000 + user.len() as u32 - 1;
    assert_eq!((words, end), (vec![0x77, frame, USER_DATA.into(), 0, hlt], End::Done));
}

#[test]
fn a_gate_that_user_code_may_not_use_is_a_protection_fault() {
    let code = assemble(64, CODE, |code| {
        code.push(i32::from(USER_DATA))?;
        code.push(0x7800)?;
        code.push(2)?;
        code.push(i32::from(USER_CODE64))?;
        code.push(0xa000)?;
        code.iretq()
    });
    let mut guest = Guest::long(&code);
    guest.put(0xa000, &[0xcd, 0x41]);
    guest.put(HANDLER, &frame_handler(2));
    guest.gate(0x41, 0xb000, 0);
    guest.gate(13, HANDLER, 0);
    let (words, _) = guest.words();
    assert_eq!(words[..2], [0x41 * 8 + 2, 0xa000], "error code names the gate; RIP is at the int");
}

#[test]
fn single_step_traps_behind_every_instruction() {
    let code = assemble(64, CODE, |code| {
        code.pushfq()?;
        code.or(dword_ptr(rsp), 0x100)?;
        code.popfq()?;
        code.mov(eax, 1u32)?;
        code.inc(eax)?;
        code.nop()?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    // Says how far RIP is and goes on; the flag is still set in the frame.
    let handler = assemble(64, HANDLER, |code| {
        code.push(rax)?;
        code.mov(eax, dword_ptr(rsp + 8))?;
        code.sub(eax, CODE as i32)?;
        say(code)?;
        code.pop(rax)?;
        code.iretq()
    });
    guest.put(HANDLER, &handler);
    guest.gate(1, HANDLER, 0);
    let (words, end) = guest.words();
    let end_of_nop = code.len() as u32 - 2;
    let expected = vec![end_of_nop - 3, end_of_nop - 1, end_of_nop];
    assert_eq!((words, end), (expected, End::Done));
}

#[test]
fn a_data_breakpoint_traps_behind_the_access() {
    let code = assemble(64, CODE, |code| {
        code.mov(eax, 0x10_0004u32)?;
        code.mov(dr0, rax)?;
        code.mov(eax, 0xd_0002u32)?; // four bytes, writes, globally
        code.mov(dr7, rax)?;
        code.mov(rbx, qword_ptr(0x10_0000))?; // a read: not watched
        code.mov(dword_ptr(0x10_0000), ebx)?; // beside it
        code.mov(byte_ptr(0x10_0007), bl)?; // its last byte
        done(code)
    });
    let mut guest = Guest::long(&code);
    let handler = assemble(64, HANDLER, |code| {
        code.mov(rax, dr6)?;
        code.and(eax, 0xf)?;
        say(code)?;
        code.pop(rax)?;
        code.sub(eax, CODE as i32)?;
        say(code)?;
        done(code)
    });
    guest.put(HANDLER, &handler);
    guest.gate(1, HANDLER, 0);
    let behind = code.len() as u32 - 2;
    assert_eq!(guest.words(), (vec![1, behind], End::Done));
}

#[test]
fn faults_without_a_handler_end_in_a_triple_fault() {
    let mut guest = Guest::long(&[0x0f, 0x0b]);
    assert_eq!(guest.words(), (vec![], End::Shutdown));
}

#[test]
fn a_fault_in_delivering_a_fault_is_a_double_fault() {
    let mut guest = Guest::long(&[0x48, 0xa1, 0, 0, 0, 0, 0, 1, 0, 0]); // mov rax, [0x10000000000]
    guest.put(HANDLER, &frame_handler(2));
    guest.gate(8, HANDLER, 0);
    let (words, _) = guest.words();
    assert_eq!(words[..2], [0, CODE as u32], "a page fault whose gate is not present");
}

#[test]
fn the_timer_wakes_a_halted_processor() {
    let code = assemble(64, CODE, |code| {
        code.mov(ebx, 0xfee0_0000u32)?;
        code.mov(dword_ptr(rbx + 0xf0), 0x1ff)?;
        code.mov(dword_ptr(rbx + 0x3e0), 0xb)?;
        code.mov(dword_ptr(rbx + 0x320), 0x45)?;
        code.mov(dword_ptr(rbx + 0x380), 1_000_000)?;
        code.sti()?;
        code.hlt()?;
        code.mov(eax, 2u32)?;
        say(code)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    // The local APIC's page is beyond the tables: one more of them.
    guest.put_word(TABLES + 0x1000 + 3 * 8, 0x21_0007);
    guest.put_word(0x21_0000 + 0x1f7 * 8, 0xfee0_0087);
    let handler = assemble(64, HANDLER, |code| {
        code.mov(eax, 1u32)?;
        say(code)?;
        code.mov(dword_ptr(rbx + 0xb0), 0)?;
        code.iretq()
    });
    guest.put(HANDLER, &handler);
    guest.gate(0x45, HANDLER, 0);
    assert_eq!(guest.words(), (vec![1, 2], End::Done));
}

/// The instruction behind `sti` is executed first, although it has to be started again while no other vCPU executes.
#[test]
fn an_interrupt_that_waits_comes_behind_what_follows_sti() {
    let code = assemble(64, CODE, |code| {
        code.mov(ebx, 0xfee0_0000u32)?;
        code.mov(dword_ptr(rbx + 0xf0), 0x1ff)?;
        code.mov(dword_ptr(rbx + 0x300), 0x4_0045)?; // to itself
        code.sti()?;
        code.lock().add(dword_ptr(0x10_0ffe), 1)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    let _other = guest.vm.create_vcpu(1, 2).unwrap();
    guest.put_word(TABLES + 0x1000 + 3 * 8, 0x21_0007);
    guest.put_word(0x21_0000 + 0x1f7 * 8, 0xfee0_0087);
    guest.put(HANDLER, &frame_handler(1));
    guest.gate(0x45, HANDLER, 0);
    let behind = CODE as u32 + code.len() as u32 - 2;
    assert_eq!(guest.words(), (vec![behind, 0], End::Done));
}

#[test]
fn a_message_from_a_device_reaches_its_vector() {
    use bulkhead_hypervisor::Msi;
    let code = assemble(64, CODE, |code| {
        code.sti()?;
        code.nop()?;
        code.hlt()?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    let mut state = guest.vcpu.state().unwrap();
    (state.lapic.regs[0xf0], state.lapic.regs[0xf1]) = (-1, 1);
    guest.vcpu.set_state(&state).unwrap();
    guest.put_word(TABLES + 0x1000 + 3 * 8, 0x21_0007);
    guest.put_word(0x21_0000 + 0x1f7 * 8, 0xfee0_0087);
    let handler = assemble(64, HANDLER, |code| {
        code.mov(eax, 0x51u32)?;
        say(code)?;
        code.mov(ebx, 0xfee0_00b0u32)?;
        code.mov(dword_ptr(rbx), 0)?;
        code.iretq()
    });
    guest.put(HANDLER, &handler);
    guest.gate(0x51, HANDLER, 0);
    guest.vm.signal_msi(Msi { address: 0xfee0_0000, data: 0x51 }).unwrap();
    // Either before the halt or as what wakes it; further ones wake it for certain.
    let (vm, is_over) = (guest.vm.clone(), Arc::new(AtomicBool::new(false)));
    let seen = Arc::clone(&is_over);
    let waker = std::thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(30));
            vm.signal_msi(Msi { address: 0xfee0_0000, data: 0x51 }).unwrap();
        }
    });
    let (words, end) = guest.words();
    is_over.store(true, Ordering::Relaxed);
    waker.join().unwrap();
    assert!(words.iter().all(|word| *word == 0x51) && !words.is_empty(), "{words:x?}");
    assert_eq!(end, End::Done);
}
