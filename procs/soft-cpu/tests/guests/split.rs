//! Locked instructions whose operand no host instruction could lock.

use bulkhead_hypervisor::Exit;
use iced_x86::code_asm::*;

use crate::stage::*;

const ROUNDS: u32 = 3000;
const VCPUS: u8 = 4;
/// Across pages by one, two and three bytes, and across a cache line within a page.
const COUNTERS: [u64; 4] = [0x10_0ffd, 0x10_2ffe, 0x10_4fff, 0x10_6fbe];

/// Each round adds one to each counter, by ADD, XADD, CMPXCHG and INC.
fn hammer() -> Vec<u8> {
    assemble(64, CODE, |code| {
        let (mut again, mut retry) = (code.create_label(), code.create_label());
        let [add, xadd, cmpxchg, inc] = COUNTERS;
        code.mov(ecx, ROUNDS)?;
        code.set_label(&mut again)?;
        code.lock().add(dword_ptr(add), 1)?;
        code.mov(edx, 1u32)?;
        code.lock().xadd(dword_ptr(xadd), edx)?;
        code.mov(eax, dword_ptr(cmpxchg))?;
        code.set_label(&mut retry)?;
        code.mov(ebx, eax)?;
        code.inc(ebx)?;
        code.lock().cmpxchg(dword_ptr(cmpxchg), ebx)?;
        code.jne(retry)?;
        code.lock().inc(dword_ptr(inc))?;
        code.dec(ecx)?;
        code.jnz(again)?;
        done(code)
    })
}

#[test]
fn no_locked_update_across_pages_or_lines_is_lost() {
    let mut guest = Guest::long(&hammer());
    let mut state = guest.vcpu.state().unwrap();
    let others = (1..VCPUS).map(|index| {
        let mut vcpu = guest.vm.create_vcpu(index, VCPUS).unwrap();
        state.regs.rsp -= 0x100;
        vcpu.set_state(&state).unwrap();
        vcpu
    });
    // All exist before one runs.
    let others: Vec<_> = others.collect();
    let threads = others.into_iter().map(|mut vcpu| {
        std::thread::spawn(move || {
            assert!(matches!(vcpu.run().unwrap(), Exit::PioOut { port: 0x81, .. }));
        })
    });
    let threads: Vec<_> = threads.collect();
    assert_eq!(guest.words(), (vec![], End::Done));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let counts = COUNTERS.map(|at| guest.word(at) as u32);
    assert_eq!(counts, [ROUNDS * u32::from(VCPUS); 4]);
}

/// The second half of a locked operand where no RAM is: read once, written once, although the instruction
/// is started again for the world and for each answer.
#[test]
fn a_locked_operand_half_in_ram_and_half_outside_is_reached_once() {
    let code = assemble(64, CODE, |code| {
        code.lock().add(dword_ptr(0x3f_fffe), 1)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    let _other = guest.vm.create_vcpu(1, 2).unwrap();
    guest.put(0x3f_fffe, &[0xff, 0xff]);
    guest.put_word(TABLES + 0x2010, 0x21_0007);
    guest.put_word(0x21_0000, 0xd000_0087);
    let Exit::MmioRead { address: 0xd000_0000, data } = guest.vcpu.run().unwrap() else { panic!() };
    data.copy_from_slice(&[7, 0]);
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::MmioWrite { address: 0xd000_0000, data: &[8, 0] });
    assert_eq!(guest.words(), (vec![], End::Done));
    assert_eq!(guest.word(0x3f_fff8) >> 48, 0);
}

/// A fault of a locked instruction comes before the others are stopped, and leaves them running.
#[test]
fn a_locked_operand_across_a_missing_page_faults() {
    let code = assemble(64, CODE, |code| {
        code.lock().add(dword_ptr(0x10_0ffe), 1)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    let _other = guest.vm.create_vcpu(1, 2).unwrap();
    guest.put_word(Guest::entry_of(0x10_1000), 0);
    let handler = assemble(64, 0x9000, |code| {
        code.mov(rax, cr2)?;
        say(code)?;
        done(code)
    });
    guest.put(0x9000, &handler);
    guest.gate(14, 0x9000, 0);
    assert_eq!(guest.words(), (vec![0x10_1000], End::Done));
    assert_eq!(guest.word(0x10_0ff8) >> 48, 0, "nothing was written");
}
