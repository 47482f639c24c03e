//! Changes of privilege level: gates, far returns, the fast calls, and what each level may.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use crate::flat::*;
use crate::stage::*;

const USER: u64 = 0xa000;
const USER_STACK: i32 = 0x7800;
/// So that user code may speak, which needs ports.
const IOPL3: i32 = 0x3002;

/// To user code at [`USER`] with these flags, by `iretd`.
fn to_user(code: &mut CodeAssembler, flags: i32) -> Result<(), IcedError> {
    for word in [FLAT_USER_DATA.into(), USER_STACK, flags, FLAT_USER_CODE.into(), USER as i32] {
        code.push(word)?;
    }
    code.iretd()
}

fn user(flags: i32, write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Guest {
    let guest = Guest::flat(&assemble(32, CODE, |code| to_user(code, flags)), Paging::Off);
    guest.put(USER, &assemble(32, USER, write));
    guest
}

#[test]
fn an_interrupt_gate_switches_to_the_stack_of_its_level() {
    let mut guest = user(0x202, |code| {
        code.int(0x40)?;
        code.cli() // IOPL is 0
    });
    let handler = assemble(32, 0xb000, |code| {
        code.mov(eax, esp)?;
        say(code)?;
        code.mov(eax, dword_ptr(esp + 16))?; // SS
        say(code)?;
        code.mov(eax, dword_ptr(esp + 12))?; // ESP
        say(code)?;
        code.pushfd()?;
        code.pop(eax)?;
        say(code)?; // interrupts are closed
        code.iretd()
    });
    guest.put(0xb000, &handler);
    guest.flat_gate(0x40, 0xb000, 3);
    guest.flat_teller(13, 2);
    let frame = KERNEL_STACK as u32 - 20;
    let expected = vec![frame, FLAT_USER_DATA.into(), USER_STACK as u32, 2, 0, USER as u32 + 2, 0];
    assert_eq!(guest.words(), (expected, End::Done));
}

/// `int1` is a debug trap and asks for no right to its gate; `int3` is an interrupt and does.
#[test]
fn int1_needs_no_right_to_its_gate() {
    let mut guest = user(2, |code| code.db(&[0xf1, 0xcc]));
    let handler = assemble(32, 0xb000, |code| {
        code.mov(eax, dword_ptr(esp))?;
        say(code)?;
        code.iretd()
    });
    guest.put(0xb000, &handler);
    guest.flat_gate(1, 0xb000, 0);
    guest.flat_gate(3, 0xb000, 0);
    guest.flat_teller(13, 2);
    let expected = vec![USER as u32 + 1, 3 * 8 + 2, USER as u32 + 1, 0];
    assert_eq!(guest.words(), (expected, End::Done));
}

#[test]
fn a_far_return_to_user_code_takes_the_kernels_segments_away() {
    let code = assemble(32, CODE, |code| {
        code.pushfd()?;
        code.or(dword_ptr(esp), 0x3000)?;
        code.popfd()?;
        let selectors = [FLAT_USER_DATA.into(), USER_STACK, FLAT_USER_CODE.into(), USER as i32];
        for word in selectors {
            code.push(word)?;
        }
        code.retf()
    });
    let mut guest = Guest::flat(&code, Paging::Off);
    let user = assemble(32, USER, |code| {
        code.mov(eax, ds)?;
        say(code)?;
        code.mov(eax, ss)?;
        say(code)?;
        code.mov(eax, esp)?;
        say(code)?;
        code.mov(eax, dword_ptr(0x1000u32)) // by DS, which is null
    });
    guest.put(USER, &user);
    guest.flat_teller(13, 1);
    let expected = vec![0, FLAT_USER_DATA.into(), USER_STACK as u32, 0, 0];
    assert_eq!(guest.words(), (expected, End::Done));
}

#[test]
fn conforming_code_keeps_the_callers_level() {
    let mut guest = user(IOPL3, |code| {
        // call far CONFORMING:0xb000
        code.db(&[0x9a, 0x00, 0xb0, 0x00, 0x00, CONFORMING as u8, 0x00])?;
        code.mov(eax, cs)?;
        say(code)?;
        // jmp far KERNEL_CODE:0xb000, which does not conform
        code.db(&[0xea, 0x00, 0xb0, 0x00, 0x00, KERNEL_CODE as u8, 0x00])
    });
    let conforming = assemble(32, 0xb000, |code| {
        code.mov(eax, cs)?;
        say(code)?;
        code.retf()
    });
    guest.put(0xb000, &conforming);
    guest.flat_teller(13, 1);
    let expected = vec![(CONFORMING | 3).into(), FLAT_USER_CODE.into(), KERNEL_CODE.into(), 0];
    assert_eq!(guest.words(), (expected, End::Done));
}

#[test]
fn popf_changes_what_the_level_may_change() {
    let said = |flags: i32| {
        let mut guest = user(flags, |code| {
            code.push(0x4_3ed5)?; // everything, and IOPL 3, without single-step
            code.popfd()?;
            code.pushfd()?;
            code.pop(ebx)?;
            code.int(0x40)
        });
        let handler = assemble(32, 0xb000, |code| {
            code.mov(eax, ebx)?;
            say(code)?;
            done(code)
        });
        guest.put(0xb000, &handler);
        guest.flat_gate(0x40, 0xb000, 3);
        guest.words().0[0]
    };
    assert_eq!(said(2), 0x4_0cd7, "neither IF nor IOPL");
    assert_eq!(said(0x202), 0x4_0ed7, "IF stays set");
    assert_eq!(said(0x1002), 0x4_1cd7, "IOPL 1 is not enough for level 3, and stays");
    assert_eq!(said(0x3002), 0x4_3ed7, "at IOPL 3, IF too");
}

/// Writes `value` to a model-specific register.
fn wrmsr(code: &mut CodeAssembler, index: u32, value: u64) -> Result<(), IcedError> {
    code.mov(ecx, index)?;
    code.mov(eax, value as u32)?;
    code.mov(edx, (value >> 32) as u32)?;
    code.wrmsr()
}

#[test]
fn sysenter_and_sysexit_go_there_and_back_in_32_bits() {
    let code = assemble(32, CODE, |code| {
        wrmsr(code, 0x174, KERNEL_CODE.into())?;
        wrmsr(code, 0x175, 0x7600)?;
        wrmsr(code, 0x176, 0xb000)?;
        to_user(code, 0x3202)
    });
    let mut guest = Guest::flat(&code, Paging::Off);
    let user = assemble(32, USER, |code| {
        code.sysenter()?;
        code.nop()
    });
    guest.put(USER, &user);
    let kernel = assemble(32, 0xb000, |code| {
        code.mov(eax, cs)?;
        say(code)?;
        code.mov(eax, ss)?;
        say(code)?;
        code.mov(eax, esp)?;
        say(code)?;
        code.pushfd()?;
        code.pop(eax)?;
        say(code)?;
        code.mov(edx, 0xc000u32)?;
        code.mov(ecx, 0x7700u32)?;
        code.sysexit()
    });
    guest.put(0xb000, &kernel);
    let back = assemble(32, 0xc000, |code| {
        code.mov(eax, cs)?;
        say(code)?;
        code.mov(eax, ss)?;
        say(code)?;
        code.mov(eax, esp)?;
        say(code)?;
        done(code)
    });
    guest.put(0xc000, &back);
    let expected = vec![8, 0x10, 0x7600, 0x3002, 0x1b, 0x23, 0x7700];
    assert_eq!(guest.words(), (expected, End::Done));
}

#[test]
fn syscall_and_sysret_go_there_and_back_in_64_bits() {
    let (kernel, lowest) = (0xb000u64, 0xffff_8000_0000_0000u64);
    let code = assemble(64, CODE, |code| {
        // STAR: kernel code 8; for sysret 0x18 (its code is 16 more, its data 8 more).
        wrmsr(code, 0xc000_0081, 0x18 << 48 | 8 << 32)?;
        wrmsr(code, 0xc000_0082, kernel)?;
        wrmsr(code, 0xc000_0084, 0x4_0200)?; // closes interrupts, clears AC
        wrmsr(code, 0xc000_0080, 0xd01)?;
        for word in [USER_DATA.into(), USER_STACK, 0x4_3202, USER_CODE64.into(), USER as i32] {
            code.push(word)?;
        }
        code.iretq()
    });
    let mut guest = Guest::long(&code);
    let user = assemble(64, USER, |code| {
        code.syscall()?;
        code.mov(eax, cs)?;
        say(code)?;
        code.mov(eax, ss)?;
        say(code)?;
        code.pushfq()?;
        code.pop(rax)?;
        say(code)?;
        code.mov(ebx, 1u32)?;
        code.syscall()
    });
    guest.put(USER, &user);
    let handler = assemble(64, kernel, |code| {
        let mut back = code.create_label();
        code.test(ebx, ebx)?;
        code.jz(back)?;
        // To where no address is: the fault is the kernel's.
        code.mov(rcx, lowest - 1)?;
        code.sysretq()?;
        code.set_label(&mut back)?;
        code.mov(eax, ecx)?;
        say(code)?;
        code.mov(eax, r11d)?;
        say(code)?;
        code.pushfq()?;
        code.pop(rax)?;
        say(code)?;
        code.sysretq()
    });
    guest.put(kernel, &handler);
    let teller = assemble(64, 0x9000, |code| {
        code.pop(rax)?;
        say(code)?;
        code.mov(eax, dword_ptr(rsp + 8))?; // CS
        say(code)?;
        done(code)
    });
    guest.put(0x9000, &teller);
    guest.gate(13, 0x9000, 0);
    let expected = vec![
        USER as u32 + 2,
        0x4_3202,
        0x3046, // equal, as the kernel's comparison found
        USER_CODE64.into(),
        USER_DATA.into(),
        0x4_3202,
        0,
        CODE64.into(),
    ];
    assert_eq!(guest.words(), (expected, End::Done));
}

#[test]
fn bases_of_fs_and_gs_come_by_register_selector_and_swap() {
    let code = assemble(64, CODE, |code| {
        code.mov(rax, cr4)?;
        code.or(eax, 1 << 16)?;
        code.mov(cr4, rax)?;
        code.mov(eax, 0x10_0000u32)?;
        code.wrfsbase(rax)?;
        code.mov(eax, dword_ptr(8).fs())?;
        say(code)?;
        wrmsr(code, 0xc000_0101, 0x10_1000)?; // GS
        wrmsr(code, 0xc000_0102, 0x10_2000)?; // the other GS
        code.mov(eax, dword_ptr(8).gs())?;
        say(code)?;
        code.swapgs()?;
        code.mov(eax, dword_ptr(8).gs())?;
        say(code)?;
        code.rdgsbase(rax)?;
        say(code)?;
        code.mov(eax, i32::from(DATA))?;
        code.mov(fs, eax)?; // the descriptor's base: 0
        code.rdfsbase(rax)?;
        say(code)?;
        code.mov(rax, 1u64 << 47)?;
        code.wrfsbase(rax)?; // no canonical address
        done(code)
    });
    let mut guest = Guest::long(&code);
    for (page, word) in [(0x10_0000, 1), (0x10_1000, 2), (0x10_2000, 3)] {
        guest.put_word(page + 8, word);
    }
    let teller = assemble(64, 0x9000, |code| {
        code.pop(rax)?;
        say(code)?;
        done(code)
    });
    guest.put(0x9000, &teller);
    guest.gate(13, 0x9000, 0);
    assert_eq!(guest.words(), (vec![1, 2, 3, 0x10_2000, 0, 0], End::Done));
}
