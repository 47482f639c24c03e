//! Code that a device writes over: it marks the page in the log, then tells by its used ring.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhead_hypervisor::Exit;
use bulkhead_memory::{GuestRange, RamLayout, WrittenPages};
use iced_x86::code_asm::*;

use crate::stage::*;

/// Where the code is that the device writes.
const CALLEE: u64 = 0x9000;
/// A used ring of 8 entries, and its index.
const USED: u64 = 0x10_0000;
const INDEX: u64 = USED + 2;

fn ring() -> GuestRange {
    GuestRange::new(USED, 6 + 8 * 8)
}

/// `mov eax, VALUE; ret`.
fn callee(value: u32) -> [u8; 6] {
    let [a, b, c, d] = value.to_le_bytes();
    [0xb8, a, b, c, d, 0xc3]
}

/// A guest whose memory has a log, through which all that the test writes goes as a device's writes do.
fn guest(code: &[u8]) -> Guest {
    let layout = RamLayout::new(4 << 20).unwrap();
    let len = WrittenPages::len_of(&layout);
    let log = bulkhead_sys::memfd::create_sealed("written", len).unwrap();
    let log = Arc::new(WrittenPages::map(&log, 0, len).unwrap());
    let guest = Guest::long_with(code, |memory| memory.log_writes(Some(log)));
    guest.put(CALLEE, &callee(1));
    guest.vm.watch_ring(ring()).unwrap();
    guest
}

/// What a device does at a write of its driver: other code, and then the news.
fn write_code(guest: &Guest, value: u32) {
    guest.put(CALLEE, &callee(value));
    let index = guest.memory.check(GuestRange::new(INDEX, 2)).unwrap();
    index.store_u16(0, value as u16, Ordering::Release).unwrap();
}

/// Calls some times, so that the way there is remembered, says what came back, and then waits for the next
/// news.
fn calls(times: u32) -> Vec<u8> {
    assemble(64, CODE, |code| {
        let (mut again, mut wait) = (code.create_label(), code.create_label());
        let mut call = code.create_label();
        code.mov(esi, 1u32)?;
        code.set_label(&mut again)?;
        code.mov(ebx, 4u32)?;
        code.set_label(&mut call)?;
        code.call(CALLEE)?;
        code.dec(ebx)?;
        code.jnz(call)?;
        say(code)?;
        code.inc(esi)?;
        code.set_label(&mut wait)?;
        code.cmp(word_ptr(INDEX), si)?;
        code.jb(wait)?;
        code.cmp(esi, times)?;
        code.jbe(again)?;
        done(code)
    })
}

#[test]
fn what_a_device_wrote_is_executed_by_who_has_read_its_news() {
    let mut guest = guest(&calls(5));
    for value in 1..=5 {
        match guest.vcpu.run().unwrap() {
            Exit::PioOut { port: 0x80, data, .. } => assert_eq!(data, u32::to_le_bytes(value)),
            other => panic!("{other:?}"),
        }
        write_code(&guest, value + 1);
    }
    assert_eq!(guest.words(), (vec![], End::Done));
}

/// Changes the guest's callee behind its log, and expects each change to be executed.
fn expect_every_change(mut guest: Guest) {
    guest.put(CALLEE, &callee(1));
    guest.vm.expect_unlogged_writes().unwrap();
    guest.vm.watch_ring(ring()).unwrap();
    for value in 1..=3 {
        match guest.vcpu.run().unwrap() {
            Exit::PioOut { port: 0x80, data, .. } => assert_eq!(data, u32::to_le_bytes(value)),
            other => panic!("{other:?}"),
        }
        write_code(&guest, value + 1);
    }
    assert_eq!(guest.words(), (vec![], End::Done));
}

#[test]
fn a_device_that_marks_nothing_has_written_everything() {
    expect_every_change(Guest::long(&calls(3)));
}

/// Jumps to global pages are remembered across address spaces: not across this.
#[test]
fn global_pages_are_no_exception() {
    let mut guest = Guest::long(&calls(3));
    guest.put_word(Guest::entry_of(CALLEE), CALLEE | 0x107);
    let mut state = guest.vcpu.state().unwrap();
    state.sregs.cr4 |= 1 << 7;
    guest.vcpu.set_state(&state).unwrap();
    expect_every_change(guest);
}

/// The first processor reads the news, the second is only told by memory that there are any.
#[test]
fn a_processor_that_has_not_read_the_news_itself_executes_what_was_written_too() {
    const ROUNDS: u32 = 300;
    const TURN: u64 = 0x11_0000;
    const SEEN: u64 = 0x12_0000;
    const SECOND: u64 = 0xb000;
    let code = assemble(64, CODE, |code| {
        let (mut again, mut wait) = (code.create_label(), code.create_label());
        code.mov(esi, 2u32)?;
        code.set_label(&mut again)?;
        code.out(0x82u32, al)?;
        code.set_label(&mut wait)?;
        code.cmp(word_ptr(INDEX), si)?;
        code.jb(wait)?;
        code.mov(dword_ptr(TURN), esi)?;
        let mut answer = code.create_label();
        code.set_label(&mut answer)?;
        code.pause()?;
        code.cmp(dword_ptr(SEEN), esi)?;
        code.jne(answer)?;
        code.inc(esi)?;
        code.cmp(esi, ROUNDS)?;
        code.jbe(again)?;
        done(code)
    });
    let mut guest = guest(&code);
    let second = assemble(64, SECOND, |code| {
        let mut again = code.create_label();
        code.call(CALLEE)?;
        code.mov(esi, 2u32)?;
        code.set_label(&mut again)?;
        code.cmp(dword_ptr(TURN), esi)?;
        code.jne(again)?;
        code.call(CALLEE)?;
        say(code)?;
        code.mov(dword_ptr(SEEN), esi)?;
        code.inc(esi)?;
        code.cmp(esi, ROUNDS)?;
        code.jbe(again)?;
        done(code)
    });
    guest.put(SECOND, &second);
    let mut state = guest.vcpu.state().unwrap();
    (state.regs.rip, state.regs.rsp) = (SECOND, 0x7c00);
    let mut vcpu = guest.vm.create_vcpu(1, 2).unwrap();
    vcpu.set_state(&state).unwrap();
    let thread = std::thread::spawn(move || {
        let mut stale = Vec::new();
        for value in 2..=ROUNDS {
            match vcpu.run().unwrap() {
                Exit::PioOut { port: 0x80, data, .. } if data == u32::to_le_bytes(value) => {}
                Exit::PioOut { port: 0x80, .. } => stale.push(value),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(vcpu.run().unwrap(), Exit::PioOut { port: 0x81, .. }));
        stale
    });
    for value in 2..=ROUNDS {
        match guest.vcpu.run().unwrap() {
            Exit::PioOut { port: 0x82, .. } => write_code(&guest, value),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(guest.words(), (vec![], End::Done));
    assert_eq!(thread.join().unwrap(), [0; 0]);
}

#[test]
fn a_ring_that_is_not_in_memory_is_refused() {
    let guest = guest(&[0xf4]);
    for (addr, len) in [(4 << 20, 6), (u64::MAX, 6), (USED, 1 << 20), ((4 << 20) - 3, 6)] {
        assert!(guest.vm.watch_ring(GuestRange::new(addr, len)).is_err(), "{addr:#x} {len:#x}");
    }
    guest.vm.unwatch_ring(ring()).unwrap();
}
