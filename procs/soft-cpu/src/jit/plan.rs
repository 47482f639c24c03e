//! What is to become of each instruction of a block, and which of them have to mind the flags.

use iced_x86::{Code, Instruction, Mnemonic as M, OpKind};

use super::access::{Access, Address};
use super::copy::Copy;
use super::divide::{Division, Divisor};
use super::system::System;
use super::vector::Vector;
use crate::state::rflags;

/// How one instruction is executed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind<'a> {
    /// By doing nothing.
    Nothing,
    /// As it is, with other registers and perhaps a memory operand.
    Copied(Copy<'a>, Option<(Address, Access)>),
    Lea(Address),
    Push(Pushed),
    PushMemory(Address),
    /// Into a general register.
    Pop(u8),
    Leave,
    Divide(Division),
    System(System),
    /// With the vector registers in the host's of the same numbers, and perhaps a memory operand.
    Vector(Vector<'a>, Option<(Address, Access)>),
    /// By the interpreter, and then on.
    Stepped,
    /// To this distance from the block.
    Jump(u64),
    /// By a condition's number.
    Branch(u8, u64),
    Call(u64),
    /// Dropping so many bytes of arguments.
    Return(u16),
    /// Jump or call to where a register or memory says.
    Indirect {
        call: bool,
        target: Target,
    },
    /// By the interpreter, which knows what comes next.
    Ended,
}

impl Kind<'_> {
    /// It ends the block.
    pub(super) fn ends(&self) -> bool {
        matches!(
            self,
            Kind::Jump(_)
                | Kind::Branch(..)
                | Kind::Call(_)
                | Kind::Return(_)
                | Kind::Indirect { .. }
                | Kind::Ended
        )
    }

    /// The interpreter may be asked to execute it.
    pub(super) fn may_step(&self) -> bool {
        !matches!(
            self,
            Kind::Nothing
                | Kind::Copied(_, None)
                | Kind::Vector(_, None)
                | Kind::Lea(_)
                | Kind::Jump(_)
                | Kind::Branch(..)
        )
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Pushed {
    Register(u8),
    Constant(i32),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Register(u8),
    Memory(Address),
}

/// One instruction of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned<'a> {
    pub(super) instruction: Instruction,
    /// Its distance from the block.
    pub(super) start: u16,
    pub(super) kind: Kind<'a>,
    /// Its access needs no check: an earlier one's has answered for it.
    pub(super) sure: bool,
    /// Somebody may look at the flags as they are behind it.
    pub(super) flags_live: bool,
}

impl Planned<'_> {
    /// The interpreter may take over here, and must find all flags in memory.
    fn may_step(&self) -> bool {
        self.kind.may_step() && (!self.sure || self.kind.ends())
    }

    /// It depends on the flags before it, be it only because it leaves some of them alone.
    pub(super) fn needs_flags(&self) -> bool {
        let instruction = &self.instruction;
        match self.kind {
            Kind::Copied(..) => {
                instruction.rflags_read() & ARITHMETIC != 0
                    || self.writes_flags() && !self.writes_all_flags() && self.flags_live
            }
            Kind::Branch(..) => true,
            _ => false,
        }
    }

    /// Of the flags before it, it depends on carry at most.
    pub(super) fn needs_only_carry(&self) -> bool {
        use iced_x86::RflagsBits as F;
        let instruction = &self.instruction;
        match self.kind {
            Kind::Copied(..) => {
                let kept = ARITHMETIC & !instruction.rflags_modified();
                let kept = if self.writes_flags() && self.flags_live { kept } else { 0 };
                let is_plain = matches!(
                    instruction.mnemonic(),
                    M::Inc | M::Dec | M::Adc | M::Sbb | M::Setb | M::Setae | M::Cmovb | M::Cmovae
                );
                is_plain && (instruction.rflags_read() & ARITHMETIC | kept) & !F::CF == 0
            }
            Kind::Branch(condition, _) => matches!(condition, 2 | 3),
            _ => false,
        }
    }

    pub(super) fn is_vector(&self) -> bool {
        matches!(self.kind, Kind::Vector(..))
    }

    pub(super) fn writes_flags(&self) -> bool {
        matches!(self.kind, Kind::Copied(..) | Kind::Vector(..))
            && self.instruction.rflags_modified() & ARITHMETIC != 0
    }

    fn writes_all_flags(&self) -> bool {
        let by_register =
            self.instruction.op_count() > 1 && self.instruction.op1_kind() == OpKind::Register;
        match self.instruction.mnemonic() {
            // A count of zero changes nothing; what a search without a find leaves is the host's to say.
            M::Shl | M::Sal | M::Shr | M::Sar if by_register => false,
            M::Shld | M::Shrd | M::Bsf | M::Bsr | M::Tzcnt | M::Lzcnt => false,
            _ => self.instruction.rflags_modified() & ARITHMETIC == ARITHMETIC,
        }
    }
}

/// iced's names for the six.
const ARITHMETIC: u32 = {
    use iced_x86::RflagsBits as F;
    F::OF | F::SF | F::ZF | F::AF | F::CF | F::PF
};

const _: () = assert!(rflags::ARITHMETIC.count_ones() == ARITHMETIC.count_ones());

/// Marks where flags are live, from the end of the block to its beginning.
pub(super) fn find_live_flags(block: &mut [Planned<'_>]) {
    let mut live = true;
    for planned in block.iter_mut().rev() {
        planned.flags_live = live;
        live = planned.may_step()
            || planned.needs_flags()
            || live && !(planned.writes_flags() && planned.writes_all_flags());
    }
}

/// What becomes of an instruction of the block at `rip`, if it is not the interpreter's alone.
pub(super) fn simple<'a>(instruction: &Instruction, bytes: &'a [u8], rip: u64) -> Option<Kind<'a>> {
    if instruction.is_invalid() || has_address_size(bytes) {
        return None;
    }
    let target = || instruction.near_branch_target();
    let number = || instruction.op0_register().number() as u8;
    match instruction.code() {
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 => return Some(Kind::Jump(target())),
        Code::Call_rel32_64 => return Some(Kind::Call(target())),
        Code::Retnq => return Some(Kind::Return(0)),
        Code::Retnq_imm16 => return Some(Kind::Return(instruction.immediate16())),
        Code::Jmp_rm64 | Code::Call_rm64 => {
            let call = instruction.code() == Code::Call_rm64;
            let target = match instruction.op0_kind() {
                OpKind::Register => Target::Register(number()),
                _ => Target::Memory(Address::of(instruction, rip)?),
            };
            return Some(Kind::Indirect { call, target });
        }
        Code::Push_r64 => return Some(Kind::Push(Pushed::Register(number()))),
        Code::Pushq_imm8 | Code::Pushq_imm32 => {
            let value = instruction.try_immediate(0).ok()?;
            return Some(Kind::Push(Pushed::Constant(super::emit::signed(value)?)));
        }
        Code::Push_rm64 if instruction.op0_kind() == OpKind::Memory => {
            return Some(Kind::PushMemory(Address::of(instruction, rip)?));
        }
        Code::Push_rm64 => return Some(Kind::Push(Pushed::Register(number()))),
        Code::Pop_r64 => return Some(Kind::Pop(number())),
        Code::Leaveq => return Some(Kind::Leave),
        Code::Lea_r32_m | Code::Lea_r64_m => {
            return Some(Kind::Lea(Address::of(instruction, rip)?.without_segment()));
        }
        _ => {}
    }
    if instruction.is_jcc_short_or_near() {
        let is_long = instruction.op0_kind() == OpKind::NearBranch64;
        let condition = (instruction.condition_code() as u8).wrapping_sub(1);
        return is_long.then(|| Kind::Branch(condition, target()));
    }
    match instruction.mnemonic() {
        M::Nop | M::Endbr64 | M::Endbr32 => return Some(Kind::Nothing),
        M::Prefetcht0 | M::Prefetcht1 | M::Prefetcht2 | M::Prefetchnta | M::Prefetchw => {
            return Some(Kind::Nothing);
        }
        _ => {}
    }
    if let Some(division) = division(instruction, rip) {
        return Some(Kind::Divide(division));
    }
    if let Some(vector) = Vector::of(instruction, bytes) {
        return vector.kind(instruction, rip);
    }
    let copy = Copy::of(instruction, bytes)?;
    if !copy.has_memory() {
        return Some(Kind::Copied(copy, None));
    }
    let address = Address::of(instruction, rip)?;
    let size = u32::try_from(instruction.memory_size().size()).ok()?;
    let locked = instruction.has_lock_prefix() || instruction.mnemonic() == M::Xchg;
    let write = instruction.op0_kind() == OpKind::Memory
        && instruction.op_count() > 0
        && !matches!(instruction.mnemonic(), M::Cmp | M::Test | M::Bt | M::Mul | M::Imul);
    let known = matches!(size, 1 | 2 | 4 | 8);
    known.then_some(Kind::Copied(
        copy,
        Some((address, Access { locked, ..Access::of(size, write) })),
    ))
}

fn division(instruction: &Instruction, rip: u64) -> Option<Division> {
    let (signed, wide) = match instruction.code() {
        Code::Div_rm32 => (false, false),
        Code::Div_rm64 => (false, true),
        Code::Idiv_rm32 => (true, false),
        Code::Idiv_rm64 => (true, true),
        _ => return None,
    };
    let divisor = match instruction.op0_kind() {
        OpKind::Register => Divisor::Register(instruction.op0_register().number() as u8),
        _ => Divisor::Memory(Address::of(instruction, rip)?),
    };
    Some(Division { signed, wide, divisor })
}

fn has_address_size(bytes: &[u8]) -> bool {
    let is_prefix = |byte: &&u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 | 0x40..=0x4f);
    bytes.iter().take_while(is_prefix).any(|byte| *byte == 0x67)
}
