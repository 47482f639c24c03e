//! The states that instructions are tried with: operands put where something interesting is.
//!
//! Mostly that is data, sometimes an edge of it, a read-only page, or no canonical address at all. Registers get values that
//! arithmetic finds interesting, and x87 and SSE registers numbers of all kinds, where the instruction looks at them.

use iced_x86::{CpuidFeature, Instruction, Mnemonic as M, OpKind, Register};

use crate::forms::{self, Lead};
use crate::generate::{Trial, has_memory, has_registers, reaches};
use crate::layout::{self, Bits, DATA, DATA_LEN, READ_ONLY};
use crate::random::Random;
use crate::state::State;

/// An address for the memory operand, relative to its segment.
pub fn target(random: &mut Random, bits: Bits, instruction: &Instruction, near: bool) -> u64 {
    let base = layout::base(bits, instruction.memory_segment());
    let size = instruction.memory_size().size().max(1) as u64;
    let size =
        if matches!(instruction.mnemonic(), M::Fxsave | M::Fxrstor | M::Fxsave64 | M::Fxrstor64) {
            512
        } else {
            size
        };
    let is_narrow = [instruction.memory_base(), instruction.memory_index()]
        .iter()
        .any(|register| register.is_gpr32() || register.is_gpr16() || *register == Register::EIP);
    let leads = forms::lead(instruction).is_some();
    let address = match random.below(50) {
        0..3 => DATA + DATA_LEN - random.below(size + 8),
        3..5 => DATA - random.below(size + 4),
        // What lies on the read-only page leads nowhere.
        5..7 if !leads => READ_ONLY + random.below(4096 - size),
        8..10 if bits == Bits::Bits16 && !leads => {
            let segment = layout::segment_16(instruction.memory_segment());
            base + u64::from(segment.limit) + 1 - random.below(size + 4)
        }
        7 if !near && !is_narrow => random.next() >> 17 | 1 << 47,
        _ => DATA + random.below(DATA_LEN - size),
    };
    let address = if size >= 16 && !random.once_in(5) { address & !15 } else { address };
    address.wrapping_sub(base)
}

/// A random state to run instructions from. The first one's operands are put in place.
pub fn state(random: &mut Random, run: &[Trial]) -> State {
    let mut registers = [0; 16];
    for register in &mut registers {
        *register = random.integer();
    }
    let trial = &run[0];
    let stack = layout::base(trial.bits, Register::SS);
    registers[4] = ((DATA + 0x800 + random.below(0x1000)) & !7) - stack;
    if trial.bits == Bits::Bits16 {
        registers[4] |= random.next() << 16;
    }
    place_operands(random, trial, &mut registers);
    if trial.bits != Bits::Bits64 {
        for register in &mut registers {
            *register &= 0xffff_ffff;
        }
        registers[8..].fill(0);
    }
    let flags = random.next() & crate::state::FLAGS;
    let flags = if random.once_in(8) { flags } else { flags & !0x400 };
    let is_plain = run.iter().all(|trial| is_plain(&trial.instruction));
    State { registers, flags, rip: 0, padding: [0; 6], fx: image(random, is_plain) }
}

fn place_operands(random: &mut Random, trial: &Trial, registers: &mut [u64; 16]) {
    let (bits, instruction) = (trial.bits, &trial.instruction);
    let upper = if bits == Bits::Bits16 { random.next() << 16 } else { 0 };
    if matches!(instruction.mnemonic(), M::Leave | M::Enter) {
        registers[5] = (DATA + random.below(0x1800) - layout::base(bits, Register::SS)) | upper;
    }
    if instruction.mnemonic() == M::Xlatb {
        let base = layout::base(bits, instruction.memory_segment());
        registers[3] = DATA + random.below(0x1800) - base;
    }
    place_strings(random, trial, registers);
    if let Some(Lead::Register(register)) = forms::lead(instruction) {
        let upper = if register.is_gpr16() { upper } else { 0 };
        registers[register.full_register().number()] = instruction.next_ip() | upper;
    }
    if has_memory(instruction) && reaches(instruction) {
        let bit = instruction.op1_register();
        registers[bit.full_register().number()] = random.below(0x20000).wrapping_sub(0x10000);
    }
    if has_memory(instruction) && has_registers(instruction) {
        place_memory(random, trial, registers);
    }
}

/// What an instruction has to find in memory: where, and bytes. For what goes where memory says, and for flags, of which
/// some would turn the test itself.
pub fn planted(random: &mut Random, trial: &Trial, state: &State) -> Option<(u64, Vec<u8>)> {
    let (bits, instruction) = (trial.bits, &trial.instruction);
    let register = |register: Register, _, _| {
        if register.is_segment_register() {
            return Some(layout::base(bits, register));
        }
        let value = state.registers[register.full_register().number()];
        let unused = 64 - 8 * register.size() as u32;
        Some(value << unused >> unused)
    };
    let stack = || {
        let mask = if bits == Bits::Bits16 { 0xffff } else { u64::MAX };
        (state.registers[4] & mask) + layout::base(bits, Register::SS)
    };
    let (at, value, size) = match (forms::lead(instruction), instruction.mnemonic()) {
        (Some(Lead::Memory), _) => {
            let size = instruction.memory_size().size();
            (instruction.virtual_address(0, 0, register)?, instruction.next_ip(), size)
        }
        (Some(Lead::Stack), _) => (stack(), instruction.next_ip(), 8),
        (_, M::Popf | M::Popfd | M::Popfq) => (stack(), random.next() & POPPED, 8),
        _ => return None,
    };
    let is_there = at >= DATA && at + size as u64 <= DATA + DATA_LEN;
    is_there.then(|| (at, value.to_le_bytes()[..size].to_vec()))
}

/// Arithmetic flags, DF, IF and IOPL.
const POPPED: u64 = crate::state::FLAGS | 0x3200;

/// Whether it looks at general registers only.
fn is_plain(instruction: &Instruction) -> bool {
    let newest = CpuidFeature::X64 as u32;
    instruction.cpuid_features().iter().all(|feature| *feature as u32 <= newest)
}

fn place_strings(random: &mut Random, trial: &Trial, registers: &mut [u64; 16]) {
    let (bits, instruction) = (trial.bits, &trial.instruction);
    let kinds: Vec<_> =
        (0..instruction.op_count()).map(|index| instruction.op_kind(index)).collect();
    let uses = |wanted: [OpKind; 3]| kinds.iter().any(|kind| wanted.contains(kind));
    let source = uses([OpKind::MemorySegSI, OpKind::MemorySegESI, OpKind::MemorySegRSI]);
    let target = uses([OpKind::MemoryESDI, OpKind::MemoryESEDI, OpKind::MemoryESRDI]);
    let masked = uses([OpKind::MemorySegDI, OpKind::MemorySegEDI, OpKind::MemorySegRDI]);
    if !(source || target || masked) {
        return;
    }
    let near_edge = random.once_in(4);
    let place = |random: &mut Random| {
        if near_edge && random.once_in(2) {
            DATA + DATA_LEN - random.below(64)
        } else {
            DATA + 0x400 + random.below(DATA_LEN - 0x800)
        }
    };
    registers[6] = place(random);
    registers[7] = place(random);
    if random.once_in(4) {
        registers[7] = registers[6].wrapping_add(random.below(32)).wrapping_sub(16);
    }
    if random.once_in(3) {
        registers[6] &= !7;
        registers[7] &= !7;
    }
    registers[6] = registers[6].wrapping_sub(layout::base(bits, instruction.memory_segment()));
    let base = if masked { instruction.memory_segment() } else { Register::ES };
    registers[7] = registers[7].wrapping_sub(layout::base(bits, base));
    registers[1] = if random.once_in(8) { 0 } else { random.below(200) };
    if kinds.iter().any(|kind| matches!(kind, OpKind::MemorySegSI | OpKind::MemoryESDI)) {
        for number in [1, 6, 7] {
            registers[number] = registers[number] & 0xffff | random.next() << 16;
        }
    }
    if random.once_in(2) {
        registers[0] = random.pick(&[0, 0x2020_2020_2020_2020, u64::MAX]);
    }
}

fn place_memory(random: &mut Random, trial: &Trial, registers: &mut [u64; 16]) {
    let instruction = &trial.instruction;
    let target = target(random, trial.bits, instruction, false);
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let scale = u64::from(instruction.memory_index_scale());
    let distance = target.wrapping_sub(instruction.memory_displacement64());
    let is_narrow = base.is_gpr32() || index.is_gpr32();
    let is_short = base.is_gpr16() || index.is_gpr16();
    let cut = |value: u64| match (is_short, is_narrow) {
        (true, _) => value & 0xffff,
        (false, true) => value & 0xffff_ffff,
        (false, false) => value,
    };
    let upper = match (is_short, is_narrow) {
        (true, _) => random.next() << 16,
        (false, true) => random.next() << 32,
        (false, false) => 0,
    };
    let number = |register: Register| register.full_register().number();
    if base == Register::None {
        registers[number(index)] = (cut(distance) / scale) | upper;
    } else if index == Register::None {
        registers[number(base)] = cut(distance) | upper;
    } else if base == index {
        registers[number(base)] = (cut(distance) / (scale + 1)) | upper;
    } else {
        let step = random.below(64).wrapping_sub(32);
        let step = if number(index) == 4 { 0 } else { step };
        registers[number(index)] = cut(step) | upper;
        registers[number(base)] = cut(distance.wrapping_sub(step.wrapping_mul(scale))) | upper;
    }
}

/// x87, MMX and SSE registers: interesting ones where the instruction looks at them.
fn image(random: &mut Random, is_plain: bool) -> [u8; 512] {
    let mut bytes = [0; 512];
    let (control, status, tags) = if is_plain { (0x37f, 0, 0xff) } else { x87(random) };
    bytes[0..2].copy_from_slice(&control.to_le_bytes());
    bytes[2..4].copy_from_slice(&status.to_le_bytes());
    bytes[4] = tags;
    let mxcsr = if is_plain { 0x1f80 } else { mxcsr(random) };
    bytes[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    bytes[28..32].copy_from_slice(&0xffffu32.to_le_bytes());
    if !is_plain {
        for register in bytes[32..160].chunks_exact_mut(16) {
            register.copy_from_slice(&random.extended().to_le_bytes());
        }
        for register in bytes[160..416].chunks_exact_mut(16) {
            register.copy_from_slice(&random.vector().to_le_bytes());
        }
    }
    bytes
}

fn x87(random: &mut Random) -> (u16, u16, u8) {
    let control = match random.below(8) {
        0 => random.next() as u16 & 0x0f3f | 0x40,
        1 | 2 => random.next() as u16 & 0x0f00 | 0x7f,
        _ => 0x37f,
    };
    let flags = if random.once_in(10) { random.next() as u16 & 0x7f } else { 0 };
    let status = random.next() as u16 & 0x7f00 | flags;
    let summary = if flags & 0x3f & !control != 0 { 0x8080 } else { 0 };
    let tags = match random.below(4) {
        0 => random.next() as u8,
        1 => 0,
        _ => 0xff,
    };
    (control, status & !0x8080 | summary, tags)
}

fn mxcsr(random: &mut Random) -> u32 {
    match random.below(10) {
        0 => random.next() as u32 & 0xffff,
        1 | 2 => random.next() as u32 & 0xe07f | 0x1f80,
        3 => random.next() as u32 & 0x3f | 0x1f80,
        _ => 0x1f80,
    }
}
