//! Any page tables, in every format, against any accesses: the software CPU's walk beside a second one
//! written from the manual.
//!
//! Every access is made three times: by the walk alone, then through the TLB, and through the TLB again,
//! which has it now. All agree on address, rights and error code; afterwards the accessed and dirty bits
//! are where the manual wants them.

mod manual;

use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_soft_cpu::Cpu;
use bulkhead_soft_cpu::fault::{Stop, vector};
use bulkhead_soft_cpu::memory::Access;
use bulkhead_soft_cpu::memory::access::Through;
use bulkhead_soft_cpu::state::{Segment, cr0, cr4, efer, rflags};

use super::{Verdict, guest};
use crate::draw::Draw;
use manual::{Machine, Tables};

/// Pages that hold tables, from address 0x1000 on; each is filled by the input in a few places.
const PAGES: u64 = 6;
const FIRST: u64 = 0x1000;

/// Most accesses of an input.
const MOST: usize = 24;

thread_local! {
    static MEMORY: GuestMemory = guest::ram(guest::RAM).0;
}

/// Compares all accesses of an input; accepted is one of which an access is allowed.
pub fn run(bytes: &[u8]) -> Verdict {
    MEMORY.with(|memory| {
        let all = GuestRange::new(0, guest::RAM);
        memory.check(all).expect("inside of memory").zero().expect("writable memory");
        let mut draw = Draw::new(bytes);
        let machine = machine(&mut draw);
        fill(memory, &mut draw, machine.format());
        let mut cpu = Cpu::solitary(memory).expect("a processor that this host can be");
        if !set_up(&mut cpu, machine) {
            return Verdict::Refused;
        }
        let mut allowed = false;
        for _ in 0..MOST {
            if draw.is_over() {
                break;
            }
            allowed |= compare(&mut cpu, memory, machine, &mut draw);
        }
        Verdict::accepted_if(allowed)
    })
}

fn machine(draw: &mut Draw<'_>) -> Machine {
    let format = [Tables::Long, Tables::Pae, Tables::Legacy, Tables::None][draw.below(4) as usize];
    let wish = draw.byte();
    let bit = |number: u8, bit: u64| if wish >> number & 1 == 1 { bit } else { 0 };
    let pages = if format == Tables::None { 0 } else { cr0::PG };
    let pae = if matches!(format, Tables::Long | Tables::Pae) { cr4::PAE } else { 0 };
    let long = if format == Tables::Long { efer::LME | efer::LMA } else { 0 };
    Machine {
        cr0: cr0::PE | cr0::ET | pages | bit(0, cr0::WP),
        cr3: FIRST,
        cr4: pae | bit(1, cr4::SMEP) | bit(2, cr4::SMAP) | bit(3, cr4::PSE) | bit(4, cr4::PGE),
        efer: long | bit(5, efer::NXE),
    }
}

/// Entries that lead to one another more often than chance would have it.
fn fill(memory: &GuestMemory, draw: &mut Draw<'_>, format: Tables) {
    let entries = draw.byte() % 32;
    for _ in 0..entries {
        let (page, index) = (u64::from(draw.byte()) % PAGES, u64::from(draw.byte() % 8));
        let (kind, rights) = (draw.byte(), u64::from(draw.half()));
        let target = match kind % 8 {
            0..=4 => FIRST + u64::from(kind / 8) % PAGES * 0x1000,
            5 => 0x1_0000 + u64::from(kind / 8) * 0x1000,
            6 => u64::from(kind / 8) << 20,
            _ => draw.long() & 0x000f_ffff_ffff_f000,
        };
        // Bits 0–8 of the rights are the entry's own, the next two its highest.
        let low = rights & 0x1ff | 1;
        if format == Tables::Legacy {
            let entry = (target as u32 & !0xfff) | low as u32;
            guest::write(memory, FIRST + page * 0x1000 + index * 4, &entry.to_le_bytes());
        } else {
            let entry = target | low | (rights >> 9 & 1) << 63 | (rights >> 10 & 1) << 57;
            guest::write(memory, FIRST + page * 0x1000 + index * 8, &entry.to_le_bytes());
        }
    }
}

/// Puts the machine in its mode; `false`: it refuses these tables at once.
fn set_up(cpu: &mut Cpu, machine: Machine) -> bool {
    let flat = Segment {
        limit: u32::MAX,
        kind: 3,
        is_user: true,
        present: true,
        big: true,
        ..Segment::default()
    };
    cpu.segments = [flat; 6];
    let long = machine.format() == Tables::Long;
    cpu.segments[1] = Segment { kind: 0xb, long, big: !long, ..flat };
    let control = &mut cpu.control;
    (control.cr0, control.cr3) = (machine.cr0, machine.cr3);
    (control.cr4, control.efer) = (machine.cr4, machine.efer);
    cpu.refresh();
    machine.format() != Tables::Pae || cpu.load_pae_pointers(machine.cr3)
}

/// One access; whether it is allowed.
fn compare(cpu: &mut Cpu, memory: &GuestMemory, machine: Machine, draw: &mut Draw<'_>) -> bool {
    let kind = draw.byte();
    let linear = address(draw, machine.format());
    let (write, user, lifted) = (kind & 1 != 0, kind & 2 != 0, kind & 4 != 0);
    let fetch = kind & 8 != 0 && !write;
    let smap = !user && !fetch && machine.cr4 & cr4::SMAP != 0 && !lifted;
    let access = Access { write, fetch, user, smap };
    let expected = manual::walk(memory, machine, linear, access);
    let found = cpu.translate(linear, access);
    match (&expected, &found) {
        (Ok(walked), Ok(translation)) => {
            assert_eq!(walked.physical, translation.physical, "{linear:#x} {access:?}");
            for mark in &walked.marks {
                assert!(mark.is_set(memory), "{mark:x?} of {linear:#x} {access:?}");
            }
        }
        (Err(code), Err(fault)) => {
            let found = (fault.vector, fault.code, fault.address);
            assert_eq!(found, (vector::PF, Some(*code), linear), "{access:?}");
        }
        _ => panic!("{linear:#x} {access:?}: {expected:x?} is expected, {found:x?} found"),
    }
    if !fetch {
        through_tlb(cpu, memory, linear, access, lifted, &expected);
    }
    expected.is_ok()
}

/// The same access as an instruction makes it, twice.
fn through_tlb(
    cpu: &mut Cpu,
    memory: &GuestMemory,
    linear: u64,
    access: Access,
    lifted: bool,
    expected: &Result<manual::Walked, u32>,
) {
    cpu.cpl = if access.user { 3 } else { 0 };
    cpu.set_rflags(2 | if lifted { rflags::AC } else { 0 });
    cpu.refresh();
    for _ in 0..2 {
        // A store of what is there, and the tables stay as they are.
        let inside = expected.as_ref().ok().and_then(|walked| byte(memory, walked.physical));
        let done = match access.write {
            true => cpu.store(linear, inside.unwrap_or(0), Through::Data).map(|()| None),
            false => cpu.load::<u8>(linear, Through::Data).map(Some),
        };
        match (expected, done) {
            (Ok(_), Ok(loaded)) => assert!(loaded.is_none() || loaded == inside, "{linear:#x}"),
            // Where no RAM is, the answer is to come from outside.
            (Ok(_), Err(_)) => assert!(inside.is_none() && cpu.stop == Stop::Outside),
            (Err(code), Err(_)) => match cpu.stop {
                Stop::Fault(fault) => assert_eq!(fault.code, Some(*code), "{linear:#x} {access:?}"),
                other => panic!("{other:?}"),
            },
            (Err(_), Ok(_)) => panic!("{linear:#x} {access:?} is not allowed"),
        }
        cpu.replay.clear();
    }
}

fn byte(memory: &GuestMemory, physical: u64) -> Option<u8> {
    let mut byte = [0];
    memory.check(GuestRange::new(physical, 1)).ok()?.copy_in(&mut byte).ok()?;
    Some(byte[0])
}

/// Addresses whose indices are small, so that they meet entries; canonical in 64-bit mode.
fn address(draw: &mut Draw<'_>, format: Tables) -> u64 {
    let indices = draw.word();
    let index = |number: u32| u64::from(indices >> (3 * number) & 7);
    let offset = u64::from(indices >> 16 & 0xfff);
    match format {
        Tables::Long => index(0) << 39 | index(1) << 30 | index(2) << 21 | index(3) << 12 | offset,
        Tables::Pae => (index(1) & 3) << 30 | index(2) << 21 | index(3) << 12 | offset,
        _ => index(1) << 22 | index(2) << 12 | offset,
    }
}

/// Of each format: a small page, a large one, one that is the kernel's, and none at all.
pub fn samples() -> Vec<Vec<u8>> {
    let entry = |page: u8, index: u8, kind: u8, rights: u16| {
        let [low, high] = rights.to_le_bytes();
        [page, index, kind, low, high]
    };
    let mut samples = Vec::new();
    for format in 0..4u8 {
        for wish in [0, 0xff, 0x2a, 0x15] {
            for rights in [0x7, 0x3, 0x5, 0x87, 0x207] {
                let mut input = vec![format, 0, wish, 5];
                input.extend(entry(0, 0, 8, 7));
                input.extend(entry(1, 0, 16, 7));
                input.extend(entry(2, 0, 24, rights));
                input.extend(entry(3, 0, 5, rights));
                input.extend(entry(0, 1, 6, 0x87));
                for kind in 0..16 {
                    input.push(kind);
                    input.extend([0, 0, kind, 0]);
                }
                samples.push(input);
            }
        }
    }
    for format in 0..4u8 {
        samples.push(vec![format, 0, 0, 0, 1, 0, 0, 0, 0]);
    }
    samples
}
