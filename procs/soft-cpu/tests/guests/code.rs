//! Code that is written while it runs.

use iced_x86::code_asm::*;

use crate::stage::*;

#[test]
fn an_instruction_may_change_the_next_one() {
    // mov byte [imm of the mov behind], 0x22; mov eax, 0x11; say
    let code = assemble(64, CODE, |code| {
        let mut target = code.create_label();
        code.lea(rbx, ptr(target))?;
        code.mov(byte_ptr(rbx + 1), 0x22)?;
        code.set_label(&mut target)?;
        code.mov(eax, 0x11u32)?;
        say(code)?;
        done(code)
    });
    assert_eq!(Guest::long(&code).words(), (vec![0x22], End::Done));
}

#[test]
fn a_loop_sees_each_of_its_changes() {
    let code = assemble(64, CODE, |code| {
        let (mut again, mut target) = (code.create_label(), code.create_label());
        code.lea(rbx, ptr(target))?;
        code.mov(ecx, 5u32)?;
        code.set_label(&mut again)?;
        code.inc(byte_ptr(rbx + 1))?;
        code.set_label(&mut target)?;
        code.mov(eax, 0x10u32)?;
        say(code)?;
        code.dec(ecx)?;
        code.jnz(again)?;
        done(code)
    });
    let expected = vec![0x11, 0x12, 0x13, 0x14, 0x15];
    assert_eq!(Guest::long(&code).words(), (expected, End::Done));
}

#[test]
fn code_that_was_called_before_is_called_as_it_is_now() {
    let callee = 0x9ffe; // crosses a page
    let code = assemble(64, CODE, |code| {
        for value in [0x21, 0x22] {
            code.mov(byte_ptr(callee + 1), value)?;
            code.call(callee)?;
            say(code)?;
        }
        code.mov(byte_ptr(callee + 4), 0x01)?; // the immediate's last byte, in the second page
        code.call(callee)?;
        say(code)?;
        done(code)
    });
    let guest = Guest::long(&code);
    guest.put(callee, &[0xb8, 0, 0, 0, 0, 0xc3]); // mov eax, 0; ret
    let mut guest = guest;
    assert_eq!(guest.words(), (vec![0x21, 0x22, 0x0100_0022], End::Done));
}

#[test]
fn a_string_store_over_code_is_seen() {
    let code = assemble(64, CODE, |code| {
        code.mov(ebp, 0x9000u32)?;
        code.call(rbp)?;
        say(code)?;
        // Fill with inc eax; ret.
        code.mov(edi, 0x9000u32)?;
        code.mov(ecx, 5u32)?;
        code.mov(eax, 0x90u32)?;
        code.rep().stosb()?;
        code.mov(eax, 0x40u32)?;
        code.call(rbp)?;
        say(code)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put(0x9000, &[0xb8, 7, 0, 0, 0, 0xff, 0xc0, 0xc3]);
    assert_eq!(guest.words(), (vec![8, 0x41], End::Done));
}

#[test]
fn a_machine_that_is_set_back_runs_what_was_loaded_meanwhile() {
    let code = |word: u32| {
        assemble(64, CODE, |code| {
            code.mov(eax, word)?;
            say(code)?;
            done(code)
        })
    };
    let mut guest = Guest::long(&code(1));
    let before = guest.vcpu.state().unwrap();
    assert_eq!(guest.words(), (vec![1], End::Done));
    guest.put(CODE, &code(2));
    guest.vcpu.set_state(&before).unwrap();
    assert_eq!(guest.words(), (vec![2], End::Done));
}
