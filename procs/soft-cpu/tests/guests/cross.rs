//! Code that one processor changes while another executes it.

use bulkhead_hypervisor::Exit;
use iced_x86::code_asm::*;

use crate::stage::*;

const SHARED: u64 = 0x9000;
const SEEN: u64 = 0x10_0000;
const SECOND: u64 = 0xb000;

/// The first processor has written to the page before the second executes it: a translation for writing
/// that it may have kept must not hide what it writes then.
#[test]
fn a_processor_executes_what_another_has_written() {
    let code = assemble(64, CODE, |code| {
        code.mov(byte_ptr(SHARED + 1), 1)?;
        say(code)?;
        for value in 1..=5 {
            let mut again = code.create_label();
            code.mov(byte_ptr(SHARED + 1), value)?;
            code.set_label(&mut again)?;
            code.pause()?;
            code.cmp(dword_ptr(SEEN), value)?;
            code.jne(again)?;
        }
        done(code)
    });
    let mut guest = Guest::long(&code);
    guest.put(SHARED, &[0xb8, 0, 0, 0, 0, 0xc3]); // mov eax, 0; ret
    let second = assemble(64, SECOND, |code| {
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        code.call(SHARED)?;
        code.mov(dword_ptr(SEEN), eax)?;
        code.cmp(eax, 5)?;
        code.jne(again)?;
        done(code)
    });
    guest.put(SECOND, &second);
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
    let mut state = guest.vcpu.state().unwrap();
    (state.regs.rip, state.regs.rsp) = (SECOND, 0x7c00);
    let mut vcpu = guest.vm.create_vcpu(1, 2).unwrap();
    vcpu.set_state(&state).unwrap();
    let thread = std::thread::spawn(move || {
        assert!(matches!(vcpu.run().unwrap(), Exit::PioOut { port: 0x81, .. }));
    });
    assert_eq!(guest.words(), (vec![], End::Done));
    thread.join().unwrap();
    assert_eq!(guest.word(SEEN) & 0xff, 5);
}
