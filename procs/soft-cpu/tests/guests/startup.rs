//! A second processor, started as kernels do it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bulkhead_hypervisor::Exit;
use iced_x86::code_asm::*;

use crate::stage::*;

#[test]
fn init_and_startup_bring_the_second_processor_to_its_trampoline() {
    // By the x2APIC: INIT to 1, start-up at page 0xc000, then wait for its mark.
    let code = assemble(64, CODE, |code| {
        code.mov(ecx, 0x1bu32)?;
        code.rdmsr()?;
        code.or(eax, 0xc00)?;
        code.wrmsr()?;
        code.mov(ecx, 0x830u32)?;
        code.mov(edx, 1u32)?;
        code.mov(eax, 0x4500u32)?;
        code.wrmsr()?;
        code.mov(eax, 0x460cu32)?;
        code.wrmsr()?;
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        code.pause()?;
        code.mov(eax, dword_ptr(0x10_0000))?;
        code.test(eax, eax)?;
        code.jz(again)?;
        say(code)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    let trampoline = assemble(16, 0, |code| {
        // lock inc dword [0x100000] by a segment that reaches it
        code.mov(ax, 0xfff0u32)?;
        code.mov(ds, ax)?;
        code.lock().inc(dword_ptr(0x100))?;
        code.mov(ax, cs)?;
        code.mov(word_ptr(0x108), ax)?;
        code.cli()?;
        code.hlt()
    });
    guest.put(0xc000, &trampoline);
    let mut second = guest.vm.create_vcpu(1, 2).unwrap();
    let kick = second.kick_handle();
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    let seen = Arc::new(Mutex::new(None));
    let thread = std::thread::spawn(move || {
        while !ended.load(Ordering::Acquire) {
            assert_eq!(second.run().unwrap(), Exit::Interrupted);
        }
        second.state().unwrap()
    });
    let words = guest.words();
    over.store(true, Ordering::Release);
    kick.kick();
    let state = thread.join().unwrap();
    *seen.lock().unwrap() = Some(state.regs.rip);
    assert_eq!(words, (vec![1], End::Done));
    assert_eq!((state.sregs.cs.selector, state.sregs.cs.base), (0xc00, 0xc000));
    assert_eq!(guest.word(0x10_0008) & 0xffff, 0xc00);
}
