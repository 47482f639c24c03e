//! SSE instructions, on the host's registers of the same numbers.
//!
//! The guest's XMM registers and MXCSR are the host's while such an instruction runs ([`super::residence`]), so all
//! that changes is where its general registers and its memory operand are. What it computes, what it leaves of a
//! register, and what it raises is the host's own doing.
//!
//! Absent on purpose: MMX registers, and what would touch the host's x87 state; MASKMOVDQU, whose memory operand is not
//! in its ModRM byte; loads of MXCSR, which may unmask something.

use iced_x86::{CpuidFeature as F, Instruction, Mnemonic as M, OpKind, Register};

use super::access::{Access, Address};
use super::emit::{Emitter, Host, Opcode, Place, Rm};
use super::layout::{self, Home};
use super::plan::Kind;

/// An instruction of this kind, in its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector<'a> {
    prefix: Option<u8>,
    wide: bool,
    opcode: &'a [u8],
    /// The register operand, or what extends the opcode.
    reg: Operand,
    rm: Operand,
    /// The `rm` operand is the one that is written.
    writes_rm: bool,
    immediate: &'a [u8],
}

/// An operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    /// An XMM register, or what extends the opcode: as it is.
    Same(u8),
    General(u8),
    Memory,
}

/// Opcodes behind 0F whose `rm` operand is written.
const STORES: &[u8] =
    &[0x11, 0x13, 0x17, 0x29, 0x2b, 0x71, 0x72, 0x73, 0x7e, 0x7f, 0xae, 0xd6, 0xe7];

impl<'a> Vector<'a> {
    /// Takes it apart. `None`: it is none of these.
    pub(super) fn of(instruction: &Instruction, bytes: &'a [u8]) -> Option<Self> {
        if !is_offered(instruction) {
            return None;
        }
        let (mut prefix, mut rex, mut at) = (None, 0, 0);
        loop {
            match *bytes.get(at)? {
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
                byte @ (0x66 | 0xf2 | 0xf3) if prefix.is_none() => prefix = Some(byte),
                byte @ 0x40..=0x4f => {
                    rex = byte;
                    at += 1;
                    break;
                }
                _ => break,
            }
            at += 1;
        }
        let len = if matches!(*bytes.get(at + 1)?, 0x38 | 0x3a) { 3 } else { 2 };
        let opcode = bytes.get(at..at + len)?;
        let (&first, &number) = (opcode.first()?, opcode.last()?);
        if first != 0x0f {
            return None;
        }
        let modrm = *bytes.get(at + len)?;
        let is_register = modrm >> 6 == 3;
        let immediate = match has_immediate(instruction) {
            true => bytes.get(bytes.len() - 1..)?,
            false => &[],
        };
        let writes_rm = match opcode {
            // Behind F3 it is a load.
            [_, 0x7e] => prefix != Some(0xf3),
            [_, number] => STORES.contains(number),
            [_, 0x3a, number] => matches!(number, 0x14..=0x17),
            _ => false,
        };
        let (first, second) = if writes_rm { (1, 0) } else { (0, 1) };
        let operand = |index, number| match instruction.op_kind(index) {
            OpKind::Register if instruction.op_register(index).is_gpr() => Operand::General(number),
            _ => Operand::Same(number),
        };
        let extends = len == 2 && matches!(number, 0x71..=0x73 | 0xae);
        let reg = match extends {
            true => Operand::Same(modrm >> 3 & 7),
            false => operand(first, modrm >> 3 & 7 | (rex & 4) << 1),
        };
        let rm = match is_register {
            true => operand(second, modrm & 7 | (rex & 1) << 3),
            false => Operand::Memory,
        };
        Some(Self { prefix, wide: rex & 8 != 0, opcode, reg, rm, writes_rm, immediate })
    }

    /// What becomes of it.
    pub(super) fn kind(self, instruction: &Instruction, rip: u64) -> Option<Kind<'a>> {
        if self.rm != Operand::Memory {
            return Some(Kind::Vector(self, None));
        }
        let size = u32::try_from(instruction.memory_size().size()).ok()?;
        if !matches!(size, 1 | 2 | 4 | 8 | 16) {
            return None;
        }
        let aligned = size == 16 && !may_be_anywhere(instruction);
        let access = Access { aligned, ..Access::of(size, self.writes_rm) };
        Some(Kind::Vector(self, Some((Address::of(instruction, rip)?, access))))
    }

    /// Emits it; `place` is its memory operand's, `free` a register that this does not need.
    pub(super) fn emit(&self, code: &mut Emitter, place: Option<Place>, free: Host) {
        let reg = fetch(code, self.reg, free);
        let rm = match place {
            Some(place) => Rm::Memory(place),
            None => Rm::Register(fetch(code, self.rm, free)),
        };
        let prefixes = self.prefix.as_slice();
        let opcode = Opcode { prefixes, wide: self.wide, rex: false, bytes: self.opcode };
        code.encode(opcode, reg, rm, self.immediate);
        let written = if self.writes_rm { self.rm } else { self.reg };
        if let Operand::General(number) = written
            && let Home::File(reg) = layout::home(number)
        {
            code.store(layout::file(reg), free);
        }
    }
}

/// The host register that holds an operand. At most one of them is general.
fn fetch(code: &mut Emitter, operand: Operand, free: Host) -> u8 {
    match operand {
        Operand::Same(number) => number,
        Operand::General(number) => match layout::home(number) {
            Home::Host(host) => host,
            Home::File(reg) => {
                code.load(free, layout::file(reg));
                free
            }
        },
        Operand::Memory => free,
    }
}

fn has_immediate(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Immediate8)
}

/// Whether its sixteen bytes of memory need not be aligned.
fn may_be_anywhere(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        M::Movups
            | M::Movupd
            | M::Movdqu
            | M::Lddqu
            | M::Pcmpestri
            | M::Pcmpestri64
            | M::Pcmpestrm
            | M::Pcmpestrm64
            | M::Pcmpistri
            | M::Pcmpistrm
    )
}

/// Whether it is one of ours, with XMM, general and memory operands only.
fn is_offered(instruction: &Instruction) -> bool {
    let is_known = instruction.cpuid_features().iter().all(|feature| {
        matches!(
            feature,
            F::SSE | F::SSE2 | F::SSE3 | F::SSSE3 | F::SSE4_1 | F::SSE4_2 | F::AES | F::PCLMULQDQ
        )
    });
    let operands = || 0..instruction.op_count();
    let works_on_vectors = match instruction.mnemonic() {
        M::Maskmovdqu | M::Cvtpi2ps | M::Cvtpi2pd => false,
        M::Stmxcsr | M::Cvtss2si | M::Cvtsd2si | M::Cvttss2si | M::Cvttsd2si => true,
        _ => operands().any(|index| instruction.op_register(index).is_xmm()),
    };
    let is_plain = operands().all(|index| match instruction.op_kind(index) {
        OpKind::Register => {
            let register = instruction.op_register(index);
            register.is_xmm() || register.is_gpr32() || register.is_gpr64()
        }
        OpKind::Memory | OpKind::Immediate8 => true,
        _ => false,
    });
    is_known && works_on_vectors && is_plain && instruction.memory_base() != Register::EIP
}
