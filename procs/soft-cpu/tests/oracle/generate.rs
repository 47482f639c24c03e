//! Random instructions and the states they are tried with.
//!
//! Instructions are random bytes that decode to something the interpreter is to execute at level 3 and that leads to the next
//! instruction: so every encoding is met, prefixes that mean nothing included. States put the memory operand where something
//! interesting is: mostly data, sometimes an edge, a read-only page, or no canonical address at all.

use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic as M, OpKind,
    Register,
};

use crate::layout::{Bits, DATA, DATA_LEN, READ_ONLY};
use crate::random::Random;
use crate::state::State;

/// An instruction in its slot.
pub struct Trial {
    pub bits: Bits,
    pub bytes: Vec<u8>,
    pub instruction: Instruction,
}

/// Random instructions in a row, with jumps over some of them, that reach memory by fixed addresses only, so that each finds it where it was meant to be.
pub fn run(random: &mut Random, bits: Bits, at: u64, length: usize) -> Vec<Trial> {
    let mut run = Vec::new();
    let mut next = at;
    while run.len() < length {
        let skips = random.once_in(3);
        let trial = instruction(random, bits, if skips { next + 2 } else { next });
        if stays_in_place(&trial.instruction) {
            if skips {
                let jump = [0x70 | random.below(16) as u8, trial.bytes.len() as u8];
                run.push(decoded(bits, next, &jump));
            }
            next += trial.bytes.len() as u64 + if skips { 2 } else { 0 };
            run.push(trial);
        }
    }
    run
}

/// Whether no register decides which memory the instruction touches.
fn stays_in_place(instruction: &Instruction) -> bool {
    let is_explicit = |index| {
        matches!(
            instruction.op_kind(index),
            OpKind::Register
                | OpKind::Memory
                | OpKind::Immediate8
                | OpKind::Immediate8_2nd
                | OpKind::Immediate16
                | OpKind::Immediate32
                | OpKind::Immediate64
                | OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
        )
    };
    (0..instruction.op_count()).all(is_explicit)
        && !instruction.is_stack_instruction()
        && !(has_memory(instruction) && (has_registers(instruction) || reaches(instruction)))
        && instruction.mnemonic() != M::Xlatb
        && !leaves_loose_ends(instruction)
}

/// Instructions that leave something undefined that a later one could look at: flags, and what is stored of the last x87
/// instruction.
fn leaves_loose_ends(instruction: &Instruction) -> bool {
    let mnemonic = instruction.mnemonic();
    matches!(mnemonic, M::Div | M::Idiv | M::Fxsave | M::Fxsave64 | M::Fnsave | M::Fnstenv)
        || matches!(mnemonic, M::Rol | M::Ror | M::Rcl | M::Rcr)
            && instruction.op1_kind() == OpKind::Immediate8
}

/// A random instruction for an address.
pub fn instruction(random: &mut Random, bits: Bits, at: u64) -> Trial {
    loop {
        if let Some(trial) = candidate(random, bits, at) {
            return trial;
        }
    }
}

fn candidate(random: &mut Random, bits: Bits, ip: u64) -> Option<Trial> {
    let mut bytes = prefixes(random, bits);
    match random.below(20) {
        0..7 => bytes.push(random.next() as u8),
        7..15 => bytes.extend([0x0f, random.next() as u8]),
        15..18 => bytes.extend([0x0f, 0x38, random.next() as u8]),
        _ => bytes.extend([0x0f, 0x3a, random.next() as u8]),
    }
    bytes.extend(random.next().to_le_bytes());
    bytes.extend(random.next().to_le_bytes());
    bytes.truncate(15);
    let mut decoder = Decoder::with_ip(number(bits), &bytes, ip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() || !is_wanted(&instruction) {
        return None;
    }
    let offsets = decoder.get_constant_offsets(&instruction);
    bytes.truncate(instruction.len());
    if has_memory(&instruction) && !has_registers(&instruction) {
        if !offsets.has_displacement() {
            return None;
        }
        let target = target(random, &instruction, true);
        let is_relative = instruction.is_ip_rel_memory_operand();
        let value =
            if is_relative { target.wrapping_sub(ip + instruction.len() as u64) } else { target };
        let (at, size) = (offsets.displacement_offset(), offsets.displacement_size());
        bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
    Some(decoded(bits, ip, &bytes))
}

fn decoded(bits: Bits, ip: u64, bytes: &[u8]) -> Trial {
    let instruction = Decoder::with_ip(number(bits), bytes, ip, DecoderOptions::NONE).decode();
    Trial { bits, bytes: bytes.to_vec(), instruction }
}

fn number(bits: Bits) -> u32 {
    if bits == Bits::Bits64 { 64 } else { 32 }
}

fn prefixes(random: &mut Random, bits: Bits) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    if random.once_in(4) {
        bytes.push(0x66);
    }
    if random.once_in(4) {
        bytes.push(random.pick(&[0xf2, 0xf3]));
    }
    if random.once_in(16) {
        bytes.push(0xf0);
    }
    if random.once_in(24) {
        bytes.push(0x67);
    }
    if random.once_in(32) {
        bytes.push(random.pick(&[0x26, 0x2e, 0x36, 0x3e]));
    }
    if bits == Bits::Bits64 && random.once_in(2) {
        bytes.push(0x40 | random.below(16) as u8);
    }
    bytes
}

/// What is executed natively and interpreted. Left out: what leaves the instruction stream, what needs level 0 or asks the
/// machine (time, CPUID, tables), and what the interpreter does not offer.
fn is_wanted(instruction: &Instruction) -> bool {
    use CpuidFeature as F;
    let is_offered = instruction.cpuid_features().iter().all(|feature| {
        matches!(
            feature,
            F::INTEL8086
                | F::INTEL186
                | F::INTEL286
                | F::INTEL386
                | F::INTEL486
                | F::X64
                | F::CMOV
                | F::CX8
                | F::CMPXCHG16B
                | F::POPCNT
                | F::LZCNT
                | F::BMI1
                | F::MOVBE
                | F::SSE
                | F::SSE2
                | F::SSE3
                | F::SSSE3
                | F::SSE4_1
                | F::SSE4_2
                | F::AES
                | F::PCLMULQDQ
                | F::FPU
                | F::FPU287
                | F::FPU387
                | F::MMX
                | F::FXSR
                | F::CLFSH
                | F::PREFETCHW
                | F::MULTIBYTENOP
        )
    });
    let is_left_out = matches!(
        instruction.mnemonic(),
        M::Popf
            | M::Popfd
            | M::Popfq
            | M::Pushf
            | M::Pushfd
            | M::Pushfq
            | M::Int3
            | M::Lar
            | M::Lsl
            | M::Verr
            | M::Verw
            | M::Sldt
            | M::Str
            | M::Smsw
            | M::Sgdt
            | M::Sidt
            | M::Lss
            | M::Lfs
            | M::Lgs
            | M::Clflush
            | M::Enter
            | M::Les
            | M::Lds
            | M::Arpl
            | M::Insb
            | M::Insw
            | M::Insd
            | M::Outsb
            | M::Outsw
            | M::Outsd
            | M::In
            | M::Out
            | M::Cli
            | M::Sti
            | M::Wait
            | M::Frstpm
            | M::Fnsetpm
            | M::Fneni
            | M::Fndisi
    );
    let uses_segments = (0..instruction.op_count()).any(|index| {
        instruction.op_kind(index) == OpKind::Register
            && instruction.op_register(index).is_segment_register()
    });
    let is_odd = matches!(instruction.memory_segment(), Register::FS | Register::GS);
    is_offered
        && !is_left_out
        && !uses_segments
        && !is_odd
        && !instruction.is_privileged()
        && instruction.flow_control() == FlowControl::Next
        && places_can_be_chosen(instruction)
}

/// The bit number in a register reaches far: it must not be the address at the same time.
fn places_can_be_chosen(instruction: &Instruction) -> bool {
    !(has_memory(instruction) && reaches(instruction))
        || [instruction.memory_base(), instruction.memory_index()]
            .into_iter()
            .all(|register| register.full_register() != instruction.op1_register().full_register())
}

fn reaches(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
        && instruction.op1_kind() == OpKind::Register
}

fn has_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|index| {
        let kind = instruction.op_kind(index);
        kind == OpKind::Memory
    })
}

fn has_registers(instruction: &Instruction) -> bool {
    let is_general = |register: Register| register.is_gpr();
    is_general(instruction.memory_base()) || is_general(instruction.memory_index())
}

/// An address for the memory operand.
fn target(random: &mut Random, instruction: &Instruction, near: bool) -> u64 {
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
    let address = match random.below(50) {
        0..3 => DATA + DATA_LEN - random.below(size + 8),
        3..5 => DATA - random.below(size + 4),
        5..7 => READ_ONLY + random.below(4096 - size),
        7 if !near && !is_narrow => random.next() >> 17 | 1 << 47,
        _ => DATA + random.below(DATA_LEN - size),
    };
    if size >= 16 && !random.once_in(5) { address & !15 } else { address }
}

/// A random state to run instructions from. The first one's operands are put in place.
pub fn state(random: &mut Random, run: &[Trial]) -> State {
    let mut registers = [0; 16];
    for register in &mut registers {
        *register = random.integer();
    }
    registers[4] = (DATA + 0x800 + random.below(0x1000)) & !7;
    let trial = &run[0];
    place_operands(random, &trial.instruction, &mut registers);
    if trial.bits == Bits::Bits32 {
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

fn place_operands(random: &mut Random, instruction: &Instruction, registers: &mut [u64; 16]) {
    if instruction.mnemonic() == M::Leave {
        registers[5] = DATA + random.below(0x1800);
    }
    if instruction.mnemonic() == M::Xlatb {
        registers[3] = DATA + random.below(0x1800);
    }
    place_strings(random, instruction, registers);
    if has_memory(instruction) && reaches(instruction) {
        let bit = instruction.op1_register();
        registers[bit.full_register().number()] = random.below(0x20000).wrapping_sub(0x10000);
    }
    if has_memory(instruction) && has_registers(instruction) {
        place_memory(random, instruction, registers);
    }
}

/// Whether it looks at general registers only.
fn is_plain(instruction: &Instruction) -> bool {
    let newest = CpuidFeature::X64 as u32;
    instruction.cpuid_features().iter().all(|feature| *feature as u32 <= newest)
}

fn place_strings(random: &mut Random, instruction: &Instruction, registers: &mut [u64; 16]) {
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
    registers[1] = if random.once_in(8) { 0 } else { random.below(200) };
    if random.once_in(2) {
        registers[0] = random.pick(&[0, 0x2020_2020_2020_2020, u64::MAX]);
    }
}

fn place_memory(random: &mut Random, instruction: &Instruction, registers: &mut [u64; 16]) {
    let target = target(random, instruction, false);
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
    let upper = if is_narrow { random.next() << 32 } else { 0 };
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
