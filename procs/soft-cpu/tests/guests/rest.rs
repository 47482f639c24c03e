//! Processors that halt with interrupts off: parked ones, and the last.

use std::sync::mpsc::channel;

use bulkhead_hypervisor::{Exit, Vcpu};
use iced_x86::code_asm::*;

use crate::stage::*;

#[test]
fn the_only_processor_halts_for_good() {
    let code = assemble(64, CODE, |code| {
        code.mov(eax, 7u32)?;
        say(code)?;
        code.cli()?;
        code.hlt()
    });
    let mut guest = Guest::long(&code);
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
    assert_eq!(guest.vcpu.run().unwrap(), Exit::Hlt);
    assert_eq!(guest.vcpu.state().unwrap().regs.rip, CODE + code.len() as u64);
    // Nothing has changed when it is run again.
    assert_eq!(guest.vcpu.run().unwrap(), Exit::Hlt);
}

#[test]
fn an_interrupt_that_may_come_is_waited_for() {
    let code = assemble(64, CODE, |code| {
        code.sti()?;
        code.hlt()
    });
    let mut guest = Guest::long(&code);
    let kick = guest.vcpu.kick_handle();
    let kicker = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        kick.kick();
    });
    assert_eq!(guest.vcpu.run().unwrap(), Exit::Interrupted);
    kicker.join().unwrap();
}

/// The first starts the second, which parks, and wakes it by an NMI, whose handler makes a mark and
/// parks again; then the first halts too.
#[test]
fn a_parked_processor_is_no_crash_and_can_be_woken_by_an_nmi() {
    let wait = |code: &mut CodeAssembler, mark: u32| {
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        code.pause()?;
        code.cmp(dword_ptr(0x10_0000), mark)?;
        code.jne(again)
    };
    let code = assemble(64, CODE, |code| {
        code.mov(ecx, 0x1bu32)?;
        code.rdmsr()?;
        code.or(eax, 0xc00)?;
        code.wrmsr()?;
        code.mov(ecx, 0x830u32)?;
        code.mov(edx, 1u32)?;
        for message in [0x4500u32, 0x460c] {
            code.mov(eax, message)?;
            code.wrmsr()?;
        }
        wait(code, 1)?;
        code.mov(eax, 0x4400u32)?;
        code.wrmsr()?;
        wait(code, 2)?;
        code.cli()?;
        code.hlt()
    });
    let guest = Guest::long(&code);
    let trampoline = assemble(16, 0, |code| {
        code.mov(ax, 0xfff0u32)?;
        code.mov(ds, ax)?;
        code.lock().inc(dword_ptr(0x100))?;
        code.cli()?;
        code.hlt()
    });
    guest.put(0xc000, &trampoline);
    // In real mode the table is at 0: the vector of NMIs leads to the trampoline once more.
    guest.put(4 * 2, &[0, 0, 0, 0x0c]);
    let (tell, told) = channel();
    let Guest { vm, memory, vcpu: first } = guest;
    let second = vm.create_vcpu(1, 2).unwrap();
    let kicks = [first.kick_handle(), second.kick_handle()];
    let run = |mut vcpu: Box<dyn Vcpu>| {
        let tell = tell.clone();
        std::thread::spawn(move || tell.send(format!("{:?}", vcpu.run().unwrap())).unwrap())
    };
    let threads = [run(first), run(second)];
    assert_eq!(told.recv().unwrap(), "Hlt");
    kicks.iter().for_each(|kick| kick.kick());
    assert_eq!(told.recv().unwrap(), "Interrupted");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut marks = [0; 4];
    let place = bulkhead_memory::GuestRange::new(0x10_0000, 4);
    memory.check(place).unwrap().copy_in(&mut marks).unwrap();
    assert_eq!(u32::from_le_bytes(marks), 2);
}
