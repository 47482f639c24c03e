//! Locked instructions of two processors on the same RAM: no update is lost.

use std::sync::{Arc, Barrier};
use std::thread;

use bulkhead_memory::{Grant, GuestMemory, GuestRange, RamLayout, Rights};
use bulkhead_soft_cpu::Cpu;
use bulkhead_soft_cpu::fault::Stop;
use bulkhead_soft_cpu::memory::Ram;
use bulkhead_soft_cpu::state::Segment;

/// Where the code is.
const CODE: u64 = 0x1000;
/// Three counters of 32 bits, the last at an odd address.
const COUNTERS: [u64; 3] = [0x500, 0x508, 0x511];
/// Rounds of each processor.
const ROUNDS: u32 = 500_000;

/// Real-mode code: each round adds one to each counter, by INC, XADD and CMPXCHG.
fn code() -> Vec<u8> {
    [
        &[0x66, 0xb9][..], // mov ecx, ROUNDS
        &ROUNDS.to_le_bytes(),
        &[0xf0, 0x66, 0xff, 0x06, 0x00, 0x05], // again: lock inc dword [0x500]
        &[0x66, 0xb8, 1, 0, 0, 0],             // mov eax, 1
        &[0xf0, 0x66, 0x0f, 0xc1, 0x06, 0x08, 0x05], // lock xadd [0x508], eax
        &[0x66, 0xa1, 0x11, 0x05],             // mov eax, [0x511]
        &[0x66, 0x89, 0xc3],                   // retry: mov ebx, eax
        &[0x66, 0x43],                         // inc ebx
        &[0xf0, 0x66, 0x0f, 0xb1, 0x1e, 0x11, 0x05], // lock cmpxchg [0x511], ebx
        &[0x75, 0xf2],                         // jne retry
        &[0x66, 0x49],                         // dec ecx
        &[0x75, 0xd7],                         // jnz again
        &[0xf4],                               // hlt
    ]
    .concat()
}

fn run(ram: Arc<Ram>, start: &Barrier) -> Stop {
    let mut cpu = Cpu::alone(ram).expect("a processor");
    cpu.segments[1] = Segment { kind: 0xb, ..Segment::real(0) };
    cpu.refresh();
    cpu.set_rip(CODE);
    start.wait();
    loop {
        match cpu.execute_blocks() {
            Stop::Lookup => {}
            other => return other,
        }
    }
}

fn counter(memory: &GuestMemory, at: u64) -> u32 {
    let mut bytes = [0; 4];
    let slice = memory.check(GuestRange::new(at, 4)).expect("within RAM");
    slice.copy_in(&mut bytes).expect("copied");
    u32::from_le_bytes(bytes)
}

#[test]
fn two_processors_lose_no_locked_update() {
    let layout = RamLayout::new(1 << 20).expect("a small RAM");
    let file = bulkhead_sys::memfd::create_sealed("locked", layout.total()).expect("a memfd");
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&file).expect("mapped");
    let code = code();
    let place = memory.check(GuestRange::new(CODE, code.len() as u64)).expect("within RAM");
    place.copy_out(&code).expect("copied");
    let ram = Arc::new(Ram::new(&memory));
    let start = Arc::new(Barrier::new(2));
    let processors: Vec<_> = (0..2)
        .map(|_| {
            let (ram, start) = (ram.clone(), start.clone());
            thread::spawn(move || run(ram, &start))
        })
        .collect();
    for processor in processors {
        assert_eq!(processor.join().expect("no panic"), Stop::Halt);
    }
    assert_eq!(COUNTERS.map(|at| counter(&memory, at)), [2 * ROUNDS; 3]);
}
