//! Any bytes as code of a guest on the software CPU, in every mode, for a bounded number of turns.
//!
//! An input says the mode, control bits, flags and registers, overwrites some of the tables, and is code
//! for the rest. Exceptions lead to handlers that go on one byte further, so that an input is tried at
//! many places.

use bulkhead_memory::GuestMemory;
use bulkhead_soft_cpu::state::{Reg, Segment, Table, cr0, cr4, efer, rflags};
use bulkhead_soft_cpu::{Cpu, Turns};

use super::{Verdict, guest};
use crate::draw::Draw;

/// Turns of the run loop: each is an exception, a string that was long, or thousands of blocks.
const TURNS: u32 = 24;

/// Longest code.
const MOST_CODE: usize = 0x400;

const PAGING: u64 = 0x1000;
const IDT: u64 = 0x4000;
const GDT: u64 = 0x5000;
const TSS: u64 = 0x6000;
const STACK: u64 = 0x7800;
const CODE: u64 = 0x8000;
const HANDLERS: u64 = 0x9000;
/// Where the handler for exceptions with an error code is, from the other one's place.
const WITH_CODE: u64 = 0x20;
/// End of what an input writes to or needs cleared.
const END: u64 = 0xa000;

thread_local! {
    static MEMORY: GuestMemory = guest::ram(guest::RAM).0;
}

/// What an input executes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Real,
    Protected16,
    Protected32,
    Legacy,
    Pae,
    Long,
    User,
    Compatibility,
}

const MODES: [Mode; 8] = [
    Mode::Long,
    Mode::User,
    Mode::Compatibility,
    Mode::Real,
    Mode::Protected16,
    Mode::Protected32,
    Mode::Legacy,
    Mode::Pae,
];

impl Mode {
    fn is_long(self) -> bool {
        matches!(self, Self::Long | Self::User | Self::Compatibility)
    }

    fn level(self) -> u8 {
        if matches!(self, Self::User | Self::Compatibility) { 3 } else { 0 }
    }

    /// Selector, and whether it is 64-bit and 32-bit code.
    fn code(self) -> (u16, bool, bool) {
        match self {
            Self::Real => (0, false, false),
            Self::Protected16 => (0x40, false, false),
            Self::Protected32 | Self::Legacy | Self::Pae => (0x18, false, true),
            Self::Long => (8, true, false),
            Self::User => (0x2b, true, false),
            Self::Compatibility => (0x3b, false, true),
        }
    }
}

/// Executes an input; accepted is one after which the guest still lives.
pub fn run(bytes: &[u8]) -> Verdict {
    MEMORY.with(|memory| {
        let used = bulkhead_memory::GuestRange::new(0, END);
        memory.check(used).expect("inside of memory").zero().expect("writable memory");
        let mut cpu = Cpu::solitary(memory).expect("a processor that this host can be");
        set_up(memory, &mut cpu, bytes);
        let mut answers = 0u64;
        let ended = cpu.execute_turns(TURNS, &mut || {
            answers = answers.wrapping_mul(0x0101_0101_0101_0101).wrapping_add(0x5a);
            answers
        });
        assert_eq!(cpu.regs.get::<u64>(Reg::ZERO), 0, "the register that reads as zero");
        assert!(cpu.cpl <= 3 && cpu.rflags() & 2 != 0);
        Verdict::accepted_if(ended != Turns::Shutdown)
    })
}

/// Makes of an input a processor and what is in its memory, which is all zeroes before.
pub(crate) fn set_up(memory: &GuestMemory, cpu: &mut Cpu, bytes: &[u8]) {
    let mut draw = Draw::new(bytes);
    let mode = MODES[usize::from(draw.byte() % 8)];
    tables(memory, mode);
    control(cpu, &mut draw, mode);
    registers(cpu, &mut draw);
    for _ in 0..draw.byte() % 8 {
        let at = PAGING + u64::from(draw.below((CODE - PAGING) as u32));
        guest::write(memory, at, draw.bytes(8));
    }
    let code = draw.bytes(MOST_CODE);
    guest::write(memory, CODE, code);
    // Whoever runs past its end halts, and does not execute zeroes to the end of memory.
    guest::write(memory, CODE + code.len() as u64, &[0xf4; 32]);
    cpu.refresh();
    cpu.set_rip(CODE);
}

/// Control registers and flags of the mode, with whatever bits the input wants beside them.
fn control(cpu: &mut Cpu, draw: &mut Draw<'_>, mode: Mode) {
    const OPTIONAL0: u64 = cr0::MP | cr0::EM | cr0::TS | cr0::NE | cr0::WP | cr0::AM;
    const OPTIONAL4: u64 = cr4::TSD
        | cr4::DE
        | cr4::PGE
        | cr4::OSFXSR
        | cr4::OSXMMEXCPT
        | cr4::UMIP
        | cr4::FSGSBASE
        | cr4::SMEP
        | cr4::SMAP;
    let (wish0, wish4) = (u64::from(draw.word()) & OPTIONAL0, u64::from(draw.word()) & OPTIONAL4);
    let pages = mode.is_long() || matches!(mode, Mode::Legacy | Mode::Pae);
    let protected = if mode == Mode::Real { 0 } else { cr0::PE };
    cpu.control.cr0 = wish0 | protected | cr0::ET | if pages { cr0::PG } else { 0 };
    cpu.control.cr3 = PAGING;
    let pae = mode.is_long() || mode == Mode::Pae;
    cpu.control.cr4 = wish4 | cr4::PSE | if pae { cr4::PAE } else { 0 };
    let long = if mode.is_long() { efer::LME | efer::LMA } else { 0 };
    cpu.control.efer = long | efer::NXE | u64::from(draw.byte()) & efer::SCE;
    let flags = u64::from(draw.word());
    cpu.set_rflags(flags & (rflags::ARITHMETIC | 0x4_7700) | 2);
    cpu.debug.control = u64::from(draw.byte()) | u64::from(draw.half()) << 16 | 0x400;
    cpu.debug.addresses = [CODE + 2, CODE + 4, STACK - 8, TSS + 4];
    segments(cpu, mode);
    (cpu.gdt, cpu.idt) = (Table { base: GDT, limit: 0x7f }, Table { base: IDT, limit: 0xfff });
    if mode == Mode::Real {
        cpu.idt = Table { base: 0, limit: 0x3ff };
    }
}

fn segments(cpu: &mut Cpu, mode: Mode) {
    let (selector, long, big) = mode.code();
    let flat = |selector, kind| Segment {
        selector,
        limit: u32::MAX,
        kind,
        is_user: true,
        dpl: mode.level(),
        present: true,
        pages: true,
        big: true,
        ..Segment::default()
    };
    let data = if mode.level() == 3 { flat(0x23, 3) } else { flat(0x10, 3) };
    cpu.segments = if mode == Mode::Real { [Segment::real(0); 6] } else { [data; 6] };
    if mode == Mode::Real {
        cpu.segments[1].kind = 0xb;
    } else {
        cpu.segments[1] = Segment { long, big, ..flat(selector, 0xb) };
    }
    cpu.task = Segment {
        selector: 0x30,
        base: TSS,
        limit: 0x68,
        kind: 0xb,
        present: true,
        ..Segment::default()
    };
    cpu.cpl = mode.level();
}

/// Each register from a list of what is likely to be near a border, or any number.
fn registers(cpu: &mut Cpu, draw: &mut Draw<'_>) {
    for number in 0..16 {
        let value = match draw.byte() {
            choice @ 0..=23 => u64::from(choice),
            choice @ 24..=63 => CODE + u64::from(choice),
            choice @ 64..=95 => STACK + u64::from(choice) - 64,
            choice @ 96..=111 => guest::RAM - 104 + u64::from(choice),
            choice @ 112..=127 => 0x1_0000 - 120 + u64::from(choice),
            // The local APIC, in the modes with paging.
            choice @ 128..=143 => 0x20_0000 + u64::from(choice - 128) * 0x40,
            choice @ 144..=159 => (1 << 47) - 152 + u64::from(choice),
            choice @ 160..=175 => u64::MAX - u64::from(choice - 160),
            choice @ 176..=191 => GDT + u64::from(choice - 176) * 8,
            choice @ 192..=199 => u64::from(u32::MAX) - u64::from(choice - 192),
            _ => draw.long(),
        };
        cpu.regs.set(Reg::general(number), value);
    }
    cpu.regs.set(Reg::RSP, STACK + u64::from(draw.byte() % 16));
}

fn tables(memory: &GuestMemory, mode: Mode) {
    let put = |address: u64, word: u64| guest::write(memory, address, &word.to_le_bytes());
    match mode {
        Mode::Legacy => {
            guest::write(memory, PAGING, &0x87u32.to_le_bytes());
            guest::write(memory, PAGING + 4, &0xfec0_0087u32.to_le_bytes());
        }
        Mode::Pae => {
            put(PAGING, (PAGING + 0x2000) | 1);
            put(PAGING + 0x2000, 0x87);
            put(PAGING + 0x2008, 0xfee0_0087);
        }
        _ => {
            put(PAGING, (PAGING + 0x1000) | 7);
            put(PAGING + 0x1000, (PAGING + 0x2000) | 7);
            put(PAGING + 0x2000, 0x87);
            put(PAGING + 0x2008, 0xfee0_0087);
        }
    }
    let descriptors: [u64; 9] = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_9b00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0x67 | TSS << 16 | 0x8b << 40,
        // Of a 64-bit task state segment the second half is zero; elsewhere, user code.
        0,
        0x000f_9b00_0000_ffff,
    ];
    for (index, descriptor) in (0..).zip(descriptors) {
        put(GDT + 8 * index, descriptor);
    }
    if !mode.is_long() {
        put(GDT + 0x38, 0x00cf_fb00_0000_ffff);
    }
    put(TSS + 4, STACK - 0x400);
    put(TSS + 8, 0x10);
    for vector in 0..0x100u64 {
        let code = matches!(vector, 8 | 10..=14 | 17);
        let handler = HANDLERS + if code { WITH_CODE } else { 0 };
        gate(&put, mode, vector, handler);
    }
    let (plain, popping): (&[u8], &[u8]) = match mode {
        _ if mode.is_long() => (
            &[0x48, 0x83, 0x04, 0x24, 1, 0x48, 0xcf], // add qword [rsp], 1; iretq
            &[0x48, 0x83, 0xc4, 8, 0x48, 0x83, 0x04, 0x24, 1, 0x48, 0xcf],
        ),
        Mode::Real => (
            &[0x55, 0x89, 0xe5, 0x83, 0x46, 2, 1, 0x5d, 0xcf], // add word [bp + 2], 1; iret
            &[0x55, 0x89, 0xe5, 0x83, 0x46, 2, 1, 0x5d, 0xcf],
        ),
        _ => (&[0x83, 0x04, 0x24, 1, 0xcf], &[0x83, 0xc4, 4, 0x83, 0x04, 0x24, 1, 0xcf]),
    };
    guest::write(memory, HANDLERS, plain);
    guest::write(memory, HANDLERS + WITH_CODE, popping);
}

fn gate(put: &dyn Fn(u64, u64), mode: Mode, vector: u64, handler: u64) {
    if mode == Mode::Real {
        // Two pointers at a time.
        put((vector & !1) * 4, handler | handler << 32);
        return;
    }
    let dpl = if vector >= 0x20 { 3 << 45 } else { 0 };
    let selector = if mode.is_long() { 8 } else { 0x18 };
    let low = handler & 0xffff | selector << 16 | 0x8e << 40 | dpl;
    let size = if mode.is_long() { 16 } else { 8 };
    put(IDT + size * vector, low);
}

/// What stands before the code in an input of this mode: nothing that would get in its way.
pub(crate) fn header(mode: u8) -> Vec<u8> {
    let mut input = vec![mode];
    input.extend((cr0::NE as u32).to_le_bytes());
    input.extend(((cr4::OSFXSR | cr4::OSXMMEXCPT) as u32).to_le_bytes());
    input.extend([1, 2, 0, 0, 0, 0, 0, 0]); // SCE; flags; no breakpoints
    input.extend([4, 24, 65, 100, 30, 40, 70, 66, 1, 2, 3, 4, 5, 6, 7, 8]);
    input.extend([0, 0]); // the stack as it is; nothing overwritten
    input
}

/// Every mode with a few instructions, and one input for each that faults at once.
pub fn samples() -> Vec<Vec<u8>> {
    let pieces: [&[u8]; 8] = [
        &[0x01, 0xd8, 0x0f, 0xaf, 0xc3, 0x83, 0xc8, 0x10, 0xf4], // arithmetic; hlt
        &[0xf3, 0xa4, 0xf2, 0xae, 0xf3, 0xa6, 0xab, 0xf4],       // strings
        &[0x0f, 0x28, 0xc1, 0x0f, 0x58, 0xc2, 0xd9, 0xe8, 0xd8, 0xc0, 0xf4], // SSE and x87
        &[0x0f, 0x01, 0xe0, 0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0, 0xf4], // control registers
        &[0x6a, 0x10, 0x1f, 0x8c, 0xd8, 0xe4, 0x60, 0xe6, 0x61, 0xf4], // segments, ports
        &[0x0f, 0xa2, 0x0f, 0x31, 0xcd, 0x41, 0x0f, 0x0b, 0xf4], // cpuid, rdtsc, int, ud2
        &[0xf0, 0xff, 0x07, 0x0f, 0xb1, 0x1f, 0x0f, 0xc7, 0x0f, 0xf4], // locked
        &[0xe8, 1, 0, 0xf4, 0xc3, 0xeb, 0xfe],                   // calls, a loop for ever
    ];
    let mut samples = Vec::new();
    for mode in 0..8 {
        for piece in pieces {
            samples.push([header(mode), piece.to_vec()].concat());
        }
        let mut shut = header(mode);
        *shut.last_mut().expect("a header") = 1;
        // The gate of #UD is empty, and so is what would tell of that.
        shut.extend(((IDT - PAGING) as u16).to_le_bytes());
        shut.extend([0; 8]);
        samples.push(shut);
    }
    samples
}
