//! Random instructions.
//!
//! They are random bytes that decode to something that can be tried at level 3: so every encoding is met, prefixes that mean
//! nothing included. What chooses where to go on is made to lead to the next instruction.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic as M, OpKind, Register,
};

use crate::forms::{self, Fate, Lead};
use crate::layout::Bits;
use crate::operands::target;
use crate::random::Random;

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
    // Vector registers are where they are for a whole run: half of them have little else.
    let computes_with_vectors = random.once_in(2);
    while run.len() < length {
        let skips = random.once_in(3);
        let trial = instruction(random, bits, if skips { next + 2 } else { next });
        if computes_with_vectors && !has_vectors(&trial.instruction) && !random.once_in(6) {
            continue;
        }
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

fn has_vectors(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|index| instruction.op_register(index).is_xmm())
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
        && instruction.flow_control() == FlowControl::Next
        && !instruction.is_privileged()
        && !matches!(instruction.mnemonic(), M::In | M::Out | M::Cli | M::Sti)
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
    settle(random, bits, ip, bytes)
}

/// The instruction that these bytes begin with, if it is to be tried, with its addresses put where something is.
pub fn settle(random: &mut Random, bits: Bits, ip: u64, mut bytes: Vec<u8>) -> Option<Trial> {
    let mut decoder = Decoder::with_ip(bits.number(), &bytes, ip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if !is_wanted(bits, &instruction) {
        return None;
    }
    let offsets = decoder.get_constant_offsets(&instruction);
    bytes.truncate(instruction.len());
    if forms::lead(&instruction) == Some(Lead::Distance) {
        // To the next instruction, whether taken or not.
        let at = offsets.immediate_offset();
        bytes[at..at + offsets.immediate_size()].fill(0);
    }
    if has_memory(&instruction) && !has_registers(&instruction) {
        if !offsets.has_displacement() {
            return None;
        }
        let target = target(random, bits, &instruction, true);
        let is_relative = instruction.is_ip_rel_memory_operand();
        let value =
            if is_relative { target.wrapping_sub(ip + instruction.len() as u64) } else { target };
        let (at, size) = (offsets.displacement_offset(), offsets.displacement_size());
        bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
    Some(decoded(bits, ip, &bytes))
}

fn decoded(bits: Bits, ip: u64, bytes: &[u8]) -> Trial {
    let instruction = Decoder::with_ip(bits.number(), bytes, ip, DecoderOptions::NONE).decode();
    Trial { bits, bytes: bytes.to_vec(), instruction }
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
    if random.once_in(if bits == Bits::Bits16 { 4 } else { 24 }) {
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

/// Whether this instance can be tried, its form being one that is.
fn is_wanted(bits: Bits, instruction: &Instruction) -> bool {
    let segment = instruction.memory_segment();
    // FS and GS are the test's own thread's; behind a 16-bit code segment lies what differs between the two sides.
    let is_odd = matches!(segment, Register::FS | Register::GS)
        || bits == Bits::Bits16 && segment == Register::CS;
    // A call by the stack pointer would push where it leads.
    let lead = forms::lead(instruction);
    let is_writing_code = instruction.flow_control() == FlowControl::IndirectCall
        && matches!(lead, Some(Lead::Register(register)) if register.full_register() == Register::RSP);
    forms::fate(bits, instruction) == Fate::Tried
        && !is_odd
        && !is_writing_code
        && places_can_be_chosen(instruction)
}

/// The bit number in a register reaches far: it must not be the address at the same time.
fn places_can_be_chosen(instruction: &Instruction) -> bool {
    !(has_memory(instruction) && reaches(instruction))
        || [instruction.memory_base(), instruction.memory_index()]
            .into_iter()
            .all(|register| register.full_register() != instruction.op1_register().full_register())
}

pub fn reaches(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
        && instruction.op1_kind() == OpKind::Register
}

pub fn has_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|index| {
        let kind = instruction.op_kind(index);
        kind == OpKind::Memory
    })
}

pub fn has_registers(instruction: &Instruction) -> bool {
    let is_general = |register: Register| register.is_gpr();
    is_general(instruction.memory_base()) || is_general(instruction.memory_index())
}
