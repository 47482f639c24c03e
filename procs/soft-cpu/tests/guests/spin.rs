//! A vCPU that spins lets those run for which it waits.

use std::time::{Duration, Instant};

use bulkhead_hypervisor::Exit;
use iced_x86::code_asm::*;

use crate::stage::*;

const WORD: u64 = 0x10_0000;

/// Two vCPUs pass a word to and fro, each waiting by `pause`, while a third does nothing but wait: with
/// fewer host processors than vCPUs, too, it comes to an end (or the test's harness ends it).
#[test]
fn vcpus_that_wait_for_one_another_get_on() {
    const TURNS: u32 = 400;
    let turns = |mine: u32| {
        assemble(64, CODE + u64::from(mine) * 0x100, |code| {
            let mut wait = code.create_label();
            code.mov(ecx, TURNS / 2)?;
            code.set_label(&mut wait)?;
            code.pause()?;
            code.mov(eax, dword_ptr(WORD))?;
            code.and(eax, 1)?;
            code.cmp(eax, mine)?;
            code.jne(wait)?;
            code.lock().inc(dword_ptr(WORD))?;
            code.dec(ecx)?;
            code.jnz(wait)?;
            done(code)
        })
    };
    let mut guest = Guest::long(&turns(0));
    guest.put(CODE + 0x100, &turns(1));
    let bystander = assemble(64, CODE + 0x200, |code| {
        let mut wait = code.create_label();
        code.set_label(&mut wait)?;
        code.pause()?;
        code.cmp(dword_ptr(WORD), TURNS as i32)?;
        code.jne(wait)?;
        done(code)
    });
    guest.put(CODE + 0x200, &bystander);
    let mut state = guest.vcpu.state().unwrap();
    let mut others = Vec::new();
    for index in 1..4 {
        let mut vcpu = guest.vm.create_vcpu(index, 4).unwrap();
        state.regs.rip = CODE + 0x100 * u64::from(index.min(2));
        vcpu.set_state(&state).unwrap();
        others.push(vcpu);
    }
    let threads = others.into_iter().map(|mut vcpu| {
        std::thread::spawn(move || {
            assert!(matches!(vcpu.run().unwrap(), Exit::PioOut { port: 0x81, .. }));
        })
    });
    let threads: Vec<_> = threads.collect();
    assert_eq!(guest.words(), (vec![], End::Done));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(guest.word(WORD), u64::from(TURNS));
}

/// A vCPU that spins for long sleeps meanwhile: it takes little of its host processor.
#[test]
fn a_long_wait_is_slept_through() {
    let code = assemble(64, CODE, |code| {
        let mut wait = code.create_label();
        code.set_label(&mut wait)?;
        code.pause()?;
        code.cmp(dword_ptr(WORD), 0)?;
        code.je(wait)?;
        done(code)
    });
    let mut guest = Guest::long(&code);
    let _other = guest.vm.create_vcpu(1, 2).unwrap();
    let memory = guest.memory.clone();
    let started = Instant::now();
    let spent = std::thread::spawn(move || {
        assert_eq!(guest.words(), (vec![], End::Done));
        thread_time()
    });
    std::thread::sleep(Duration::from_millis(300));
    let place = bulkhead_memory::GuestRange::new(WORD, 8);
    memory.check(place).unwrap().copy_out(&1u64.to_le_bytes()).unwrap();
    let spent = spent.join().unwrap();
    let elapsed = started.elapsed();
    assert!(spent < elapsed / 2, "{spent:?} of {elapsed:?}");
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let first = text.split_whitespace().next().unwrap();
    Duration::from_nanos(first.parse().unwrap())
}
