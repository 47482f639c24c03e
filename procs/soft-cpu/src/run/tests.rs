//! The run loop turn by turn: what may come between two turns at the same instruction.

use std::sync::Arc;

use bulkhead_memory::{Grant, GuestRange, RamLayout, Rights};

use crate::Cpu;
use crate::memory::Ram;
use crate::state::{Segment, rflags};

const CODE: u64 = 0x1000;
const HANDLER: u16 = 0x900;
const VECTOR: usize = 0x51;

/// In real mode, interrupts closed.
fn cpu(code: &[u8]) -> Cpu {
    let layout = RamLayout::new(4 << 20).unwrap();
    let memfd = bulkhead_sys::memfd::create_sealed("turns", layout.total()).unwrap();
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&memfd).unwrap();
    let put = |at: u64, bytes: &[u8]| {
        let place = GuestRange::new(at, bytes.len() as u64);
        memory.check(place).unwrap().copy_out(bytes).unwrap();
    };
    put(CODE, code);
    put(VECTOR as u64 * 4, &u32::from(HANDLER).to_le_bytes());
    let mut cpu = Cpu::alone(Arc::new(Ram::new(&memory))).unwrap();
    cpu.segments[1] = Segment { kind: 0xb, ..Segment::real(0) };
    cpu.refresh();
    cpu.set_rip(CODE);
    cpu
}

fn request_interrupt(cpu: &mut Cpu) {
    let mut page = *cpu.apic.page();
    page[0xf] = 0x1ff;
    page[0x20 + VECTOR / 32] = 1 << (VECTOR % 32);
    cpu.apic.set_page(page);
}

#[test]
fn what_stands_behind_sti_is_executed_first_although_it_is_started_twice() {
    let mut cpu = cpu(&[0xfb, 0xa2, 0x10, 0x10, 0x90, 0xf4]); // sti; mov [0x1010], al; nop; hlt
    // A write to code: the instruction wants to be alone.
    cpu.execute_turns(1, &mut || 0);
    assert_eq!((cpu.rip(), cpu.restarts_alone), (CODE + 1, true));
    assert_ne!(cpu.rflags() & rflags::IF, 0);
    request_interrupt(&mut cpu);
    cpu.execute_turns(1, &mut || 0);
    assert_eq!((cpu.rip(), cpu.interrupts), (CODE + 4, 0));
    cpu.execute_turns(1, &mut || 0);
    assert_eq!(cpu.interrupts, 1);
}
