//! The log of written pages: each write is in one round or in a later one.

use bulkhead_hypervisor::{EngineError, Exit};
use bulkhead_memory::GuestRange;
use iced_x86::code_asm::*;

use crate::stage::*;

/// Where the guests write, and the table that maps it.
const DATA_AT: u64 = 0x10_0000;
const TABLE: u64 = 0x20_0000;

/// The pages of a round, by address.
fn round(guest: &Guest) -> Vec<u64> {
    let log = guest.vm.get_dirty_log(0).unwrap();
    assert_eq!(log.len(), (4 << 20) / 4096 / 64);
    let pages = 0..log.len() as u64 * 64;
    pages
        .filter(|page| log[*page as usize / 64] >> (page % 64) & 1 == 1)
        .map(|page| page << 12)
        .collect()
}

fn until_it_says(guest: &mut Guest) {
    assert!(matches!(guest.vcpu.run().unwrap(), Exit::PioOut { port: 0x80, .. }));
}

#[test]
fn a_page_is_told_in_each_round_that_writes_it_and_in_no_other() {
    let code = assemble(64, CODE, |code| {
        let mut again = code.create_label();
        code.mov(ebx, DATA_AT as u32)?;
        code.set_label(&mut again)?;
        // Reads give the page a translation, the second a write tag if it may have one.
        code.mov(eax, dword_ptr(rbx + 0x3000))?;
        code.mov(dword_ptr(rbx), eax)?;
        code.mov(dword_ptr(rbx + 8), eax)?;
        say(code)?;
        code.mov(eax, dword_ptr(rbx))?;
        say(code)?;
        code.mov(dword_ptr(rbx + 0x1ffe), eax)?;
        say(code)?;
        code.jmp(again)
    });
    let mut guest = Guest::long(&code);
    until_it_says(&mut guest);
    guest.vm.start_dirty_log().unwrap();
    until_it_says(&mut guest);
    assert!(round(&guest).is_empty(), "a read of what was written before");
    for _ in 0..3 {
        until_it_says(&mut guest);
        let mut pages = round(&guest);
        // Of the table, the first round tells that pages are dirty.
        pages.retain(|page| *page != TABLE);
        assert_eq!(pages, [DATA_AT + 0x1000, DATA_AT + 0x2000]);
        until_it_says(&mut guest);
        assert_eq!(round(&guest), [DATA_AT]);
        until_it_says(&mut guest);
        assert!(round(&guest).is_empty());
    }
    guest.vm.stop_dirty_log().unwrap();
    assert!(matches!(guest.vm.get_dirty_log(9), Err(EngineError::Bug(_))));
}

#[test]
fn what_the_processor_writes_by_itself_is_told() {
    let code = assemble(64, CODE, |code| {
        say(code)?;
        code.mov(eax, dword_ptr(DATA_AT))?;
        say(code)?;
        code.mov(ax, DATA as u32)?;
        code.mov(es, ax)?;
        say(code)
    });
    let mut guest = Guest::long(&code);
    guest.put_word(GDT + u64::from(DATA), 0x00cf_9200_0000_ffff);
    guest.vm.start_dirty_log().unwrap();
    until_it_says(&mut guest);
    round(&guest);
    until_it_says(&mut guest);
    assert_eq!(round(&guest), [TABLE], "accessed: a bit in the page table");
    until_it_says(&mut guest);
    assert!(round(&guest).contains(&(GDT & !0xfff)), "accessed: a bit in the descriptor");
}

/// As a migration does it: what was written is copied while the guest runs on, and in the end the copy is what the
/// guest has. Each vCPU counts in pages of its own, in one that it shares, and in some by string instructions.
#[test]
fn a_copy_made_by_rounds_is_complete_when_the_vcpus_have_stopped() {
    const VCPUS: u8 = 2;
    const LEN: u64 = 0x20_000;
    let code = assemble(64, CODE, |code| {
        let mut again = code.create_label();
        code.mov(ecx, 0u32)?;
        code.set_label(&mut again)?;
        code.inc(rcx)?;
        code.mov(rax, rcx)?;
        code.and(eax, 15)?;
        code.shl(eax, 12)?;
        code.mov(qword_ptr(rbx + rax + 0x18), rcx)?;
        code.add(qword_ptr(rbx + 0x20), 3)?;
        code.push(rcx)?;
        code.pop(rdx)?;
        code.lock().inc(qword_ptr(DATA_AT + 0x1_f000))?;
        code.mov(rdx, rcx)?;
        code.lea(rdi, ptr(rbx + rax + 0x100))?;
        code.mov(rax, rcx)?;
        code.mov(ecx, 3u32)?;
        code.rep().stosq()?;
        code.mov(rcx, rdx)?;
        code.jmp(again)
    });
    let mut guest = Guest::long(&code);
    let mut state = guest.vcpu.state().unwrap();
    let mut vcpus = vec![guest.vm.create_vcpu(1, VCPUS).unwrap()];
    for (index, vcpu) in std::iter::once(&mut guest.vcpu).chain(&mut vcpus).enumerate() {
        (state.regs.rbx, state.regs.rsp) =
            (DATA_AT + 0x8000 * index as u64, DATA_AT + 0x1_e000 + 0x800 * index as u64);
        vcpu.set_state(&state).unwrap();
    }
    let second = vcpus.remove(0);
    let Guest { vm, memory, vcpu: first } = guest;
    let kicks = [first.kick_handle(), second.kick_handle()];
    let threads = [first, second].map(|mut vcpu| {
        std::thread::spawn(move || assert_eq!(vcpu.run().unwrap(), Exit::Interrupted))
    });
    let page = |address: u64| {
        let mut bytes = vec![0; 4096];
        memory.check(GuestRange::new(address, 4096)).unwrap().copy_in(&mut bytes).unwrap();
        bytes
    };
    vm.start_dirty_log().unwrap();
    let mut copy: Vec<_> = (0..LEN / 4096).map(|index| page(DATA_AT + index * 4096)).collect();
    let mut told = 0;
    let mut take = || {
        let log = vm.get_dirty_log(0).unwrap();
        for (index, kept) in (0..).zip(&mut copy) {
            let number = DATA_AT / 4096 + index;
            if log[number as usize / 64] >> (number % 64) & 1 == 1 {
                *kept = page(number * 4096);
                told += 1;
            }
        }
        told
    };
    while take() < 200 {
        std::thread::yield_now();
    }
    kicks.iter().for_each(|kick| kick.kick());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    take();
    for (index, kept) in (0..).zip(&copy) {
        assert!(*kept == page(DATA_AT + index * 4096), "page {index} is not what was copied");
    }
}
