//! A debugger outside the guest stops it where it wants, and leaves no trace in it.

use bulkhead_hypervisor::{DebugStop, Exit, GuestDebug, Watch};
use iced_x86::code_asm::*;

use crate::stage::*;

fn breaks(code: &[u64]) -> GuestDebug {
    GuestDebug { code: code.to_vec(), ..GuestDebug::default() }
}

fn steps() -> GuestDebug {
    GuestDebug { steps: true, ..GuestDebug::default() }
}

/// Runs until the debugger is told something.
fn stop(guest: &mut Guest) -> (DebugStop, u64) {
    let stop = match guest.vcpu.run().unwrap() {
        Exit::Debug(stop) => stop,
        other => panic!("{other:?}"),
    };
    (stop, guest.vcpu.state().unwrap().regs.rip)
}

/// `mov ecx, 100`, then at [`LOOP`] `inc eax`, at `+2` `dec ecx`, `jnz`; says eax.
const LOOP: u64 = CODE + 5;

fn counter() -> Vec<u8> {
    assemble(64, CODE, |code| {
        code.mov(ecx, 100u32)?;
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        code.inc(eax)?;
        code.dec(ecx)?;
        code.jnz(again)?;
        say(code)?;
        done(code)
    })
}

#[test]
fn a_breakpoint_in_the_middle_of_a_block_is_met_each_time_round() {
    let mut guest = Guest::long(&counter());
    for round in 0..100 {
        guest.vcpu.set_guest_debug(&breaks(&[LOOP + 2])).unwrap();
        assert_eq!(stop(&mut guest), (DebugStop::Code, LOOP + 2));
        let state = guest.vcpu.state().unwrap();
        assert_eq!((state.regs.rax, state.regs.rcx), (round + 1, 100 - round));
        // Nobody steps over it: there it is still.
        assert_eq!(stop(&mut guest), (DebugStop::Code, LOOP + 2));
        guest.vcpu.set_guest_debug(&steps()).unwrap();
        assert_eq!(stop(&mut guest), (DebugStop::Step, LOOP + 4));
    }
    guest.vcpu.set_guest_debug(&GuestDebug::default()).unwrap();
    assert_eq!(guest.words(), (vec![100], End::Done));
}

#[test]
fn a_breakpoint_is_met_although_the_block_was_decoded_and_linked_before() {
    let mut guest = Guest::long(&counter());
    guest.vcpu.set_guest_debug(&breaks(&[CODE + 9])).unwrap();
    for _ in 0..3 {
        assert_eq!(stop(&mut guest).1, CODE + 9);
        guest.vcpu.set_guest_debug(&steps()).unwrap();
        assert_eq!(stop(&mut guest).1, LOOP);
        guest.vcpu.set_guest_debug(&breaks(&[CODE + 9])).unwrap();
    }
    // The same place in another page is none of ours.
    guest.vcpu.set_guest_debug(&breaks(&[LOOP + 0x1000])).unwrap();
    assert_eq!(guest.words(), (vec![100], End::Done));
}

#[test]
fn steps_go_instruction_by_instruction_through_exits_and_exceptions() {
    let code = assemble(64, CODE, |code| {
        code.nop()?;
        say(code)?;
        code.ud2()
    });
    let mut guest = Guest::long(&code);
    guest.put(0x9000, &assemble(64, 0x9000, done));
    guest.gate(6, 0x9000, 0);
    guest.vcpu.set_guest_debug(&steps()).unwrap();
    assert_eq!(stop(&mut guest), (DebugStop::Step, CODE + 1));
    // The write leaves first; the step is over when it has been answered.
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
    assert_eq!(stop(&mut guest), (DebugStop::Step, CODE + 3));
    assert_eq!(stop(&mut guest), (DebugStop::Step, 0x9000), "the handler's first instruction");
}

#[test]
fn the_guest_keeps_its_int3_and_its_debug_registers() {
    let code = assemble(64, CODE, |code| {
        code.mov(rax, 0x8100u64)?;
        code.mov(dr0, rax)?;
        code.mov(eax, 2u32)?;
        code.mov(dr7, rax)?;
        code.int3()?;
        code.mov(eax, 0x8100u32)?;
        code.jmp(rax)
    });
    let mut guest = Guest::long(&code);
    guest.put(0x8100, &assemble(64, 0x8100, |code| code.nop()));
    for (vector, handler, word) in [(3, 0x9000, 3u32), (1, 0xa000, 1)] {
        let handle = assemble(64, handler, |code| {
            code.mov(eax, word)?;
            say(code)?;
            if word == 1 { done(code) } else { code.iretq() }
        });
        guest.put(handler, &handle);
        guest.gate(vector, handler, 0);
    }
    guest.vcpu.set_guest_debug(&breaks(&[0x8100])).unwrap();
    let mut words = Vec::new();
    loop {
        match guest.vcpu.run().unwrap() {
            Exit::PioOut { data, .. } => words.push(data[0]),
            Exit::Debug(stop) => {
                assert_eq!((stop, &words[..]), (DebugStop::Code, &[3][..]));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let own = guest.vcpu.state().unwrap().debug.dr7;
    assert_eq!(own & 0xff, 2, "as the guest has set it");
    guest.vcpu.set_guest_debug(&GuestDebug::default()).unwrap();
    assert_eq!(guest.words(), (vec![1], End::Done), "its own breakpoint at the same place");
}

#[test]
fn a_watch_stops_behind_the_instruction_that_touches_it() {
    let code = assemble(64, CODE, |code| {
        code.mov(rbx, 0x10_0000u64)?;
        code.mov(eax, dword_ptr(rbx))?;
        code.mov(dword_ptr(rbx + 4), 7)?;
        code.mov(byte_ptr(rbx + 3), 5)?;
        say(code)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    let watch = Watch { address: 0x10_0000, len: 4, reads: false };
    let data = |reads| GuestDebug { data: vec![Watch { reads, ..watch }], ..Default::default() };
    guest.vcpu.set_guest_debug(&data(false)).unwrap();
    let (why, behind) = stop(&mut guest);
    assert_eq!((why, guest.word(0x10_0000)), (DebugStop::Data(0x10_0000), 7 << 32 | 5 << 24));
    assert_eq!(behind, CODE + code.len() as u64 - 4);
    let mut state = guest.vcpu.state().unwrap();
    state.regs.rip = CODE;
    guest.vcpu.set_registers(&state).unwrap();
    guest.vcpu.set_guest_debug(&data(true)).unwrap();
    assert_eq!(stop(&mut guest).0, DebugStop::Data(0x10_0000));
    assert_eq!(guest.vcpu.state().unwrap().regs.rax, 5 << 24, "the read comes first");
}

#[test]
fn code_that_the_debugger_wrote_is_what_runs() {
    let mut guest = Guest::long(&counter());
    guest.vcpu.set_guest_debug(&breaks(&[LOOP])).unwrap();
    assert_eq!(stop(&mut guest).1, LOOP);
    guest.vcpu.set_guest_debug(&breaks(&[LOOP + 2])).unwrap();
    assert_eq!(stop(&mut guest).1, LOOP + 2);
    guest.vcpu.set_guest_debug(&GuestDebug::default()).unwrap();
    let mut state = guest.vcpu.state().unwrap();
    (state.regs.rip, state.regs.rcx, state.regs.rax) = (LOOP, 1, 0);
    guest.vcpu.set_registers(&state).unwrap();
    // `inc eax` becomes `dec eax`.
    guest.put(LOOP, &[0xff, 0xc8]);
    guest.vm.code_changed(LOOP, 2).unwrap();
    assert_eq!(guest.words(), (vec![u32::MAX], End::Done));
    assert!(guest.vm.code_changed(u64::MAX, 2).is_err());
    assert!(guest.vm.code_changed(0, u64::MAX).is_err());
}
