//! A comparison and the conditional jump behind it, as one operation.
//!
//! Every seventh instruction is a conditional jump, and nearly all follow what sets their flags. The pair saves a dispatch, and
//! the jump need not wait until the flags have been to memory and back. The flags are stored all the same: somebody else may
//! look at them. The jump's own operation stays behind the first one's and still holds the target and the link.
//!
//! Law: only within a page and in 64-bit mode, where a jump cannot fault. A block that begins at the jump knows nothing of this.

use super::one::{Dec, Inc, One};
use super::two::{Add, And, Cmp, Sub, Test, Two};
use crate::alu::Word;
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::flow::branch;
use crate::op::{At, Handler, Next};
use crate::state::Flags;
use iced_x86::{Instruction, Mnemonic as M, OpKind};

/// The first of the pair: sets flags, and its target if it has one.
trait First {
    fn run<W: Word>(cpu: &mut Cpu, at: At) -> Result<Flags, Raised>;
}

struct RegisterRegister<O>(O);
struct RegisterImmediate<O>(O);
struct RegisterMemory<O>(O);
struct MemoryRegister<O>(O);
struct MemoryImmediate<O>(O);
struct Register<O>(O);

#[inline(always)]
fn to_register<O: Two, W: Word>(cpu: &mut Cpu, at: At, second: W) -> Flags {
    let (value, flags) = O::run(cpu.regs.get::<W>(at.dst), second, cpu.flags);
    if O::WRITES {
        cpu.regs.set(at.dst, value);
    }
    flags
}

impl<O: Two> First for RegisterRegister<O> {
    #[inline(always)]
    fn run<W: Word>(cpu: &mut Cpu, at: At) -> Result<Flags, Raised> {
        let second = cpu.regs.get::<W>(at.src);
        Ok(to_register::<O, W>(cpu, at, second))
    }
}

impl<O: Two> First for RegisterImmediate<O> {
    #[inline(always)]
    fn run<W: Word>(cpu: &mut Cpu, at: At) -> Result<Flags, Raised> {
        Ok(to_register::<O, W>(cpu, at, W::truncate(at.imm)))
    }
}

impl<O: Two> First for RegisterMemory<O> {
    #[inline(always)]
    fn run<W: Word>(cpu: &mut Cpu, at: At) -> Result<Flags, Raised> {
        let second = cpu.read::<W>(at)?;
        Ok(to_register::<O, W>(cpu, at, second))
    }
}

/// Only of comparisons: what writes memory is not fused.
impl<O: Two> First for MemoryRegister<O> {
    #[inline(always)]
    fn run<W: Word>(cpu: &mut Cpu, at: At) -> Result<Flags, Raised> {
        let first = cpu.read::<W>(at)?;
        Ok(O::run(first, cpu.regs.get(at.src), cpu.flags).1)
    }
}

/// Likewise.
impl<O: Two> First for MemoryImmediate<O> {
    #[inline(always)]
    fn run<W: Word>(cpu: &mut Cpu, at: At) -> Result<Flags, Raised> {
        let first = cpu.read::<W>(at)?;
        Ok(O::run(first, W::truncate(at.imm), cpu.flags).1)
    }
}

impl<O: One> First for Register<O> {
    #[inline(always)]
    fn run<W: Word>(cpu: &mut Cpu, at: At) -> Result<Flags, Raised> {
        let (value, flags) = O::run(cpu.regs.get::<W>(at.dst), cpu.flags);
        cpu.regs.set(at.dst, value);
        Ok(flags)
    }
}

fn pair<F: First, W: Word, const CC: u8>(cpu: &mut Cpu, at: At) -> Next {
    let flags = attempt!(cpu, at, F::run::<W>(cpu, at));
    cpu.flags = flags;
    branch::<CC>(cpu, at.following(), flags)
}

/// The handler of `first` together with the conditional jump behind it, whose condition has this number.
pub fn select(first: &Instruction, condition: u8) -> Option<Handler> {
    use OpKind as K;
    let bytes = match first.op0_kind() {
        K::Register => first.op0_register().size(),
        _ => first.memory_size().size(),
    };
    let second = if first.op_count() == 2 { first.op1_kind() } else { K::FarBranch16 };
    let is_immediate = first.try_immediate(1).is_ok();
    let of = |handlers: fn(usize, u8) -> Option<Handler>| handlers(bytes, condition);
    match (first.mnemonic(), first.op0_kind(), second) {
        (M::Cmp, K::Register, K::Register) => of(sized::<RegisterRegister<Cmp>>),
        (M::Cmp, K::Register, K::Memory) => of(sized::<RegisterMemory<Cmp>>),
        (M::Cmp, K::Memory, K::Register) => of(sized::<MemoryRegister<Cmp>>),
        (M::Cmp, K::Register, _) if is_immediate => of(sized::<RegisterImmediate<Cmp>>),
        (M::Cmp, K::Memory, _) if is_immediate => of(sized::<MemoryImmediate<Cmp>>),
        (M::Test, K::Register, K::Register) => of(sized::<RegisterRegister<Test>>),
        (M::Test, K::Memory, K::Register) => of(sized::<MemoryRegister<Test>>),
        (M::Test, K::Register, _) if is_immediate => of(sized::<RegisterImmediate<Test>>),
        (M::Test, K::Memory, _) if is_immediate => of(sized::<MemoryImmediate<Test>>),
        (M::Sub, K::Register, K::Register) => of(wide::<RegisterRegister<Sub>>),
        (M::Sub, K::Register, _) if is_immediate => of(wide::<RegisterImmediate<Sub>>),
        (M::Add, K::Register, K::Register) => of(wide::<RegisterRegister<Add>>),
        (M::Add, K::Register, _) if is_immediate => of(wide::<RegisterImmediate<Add>>),
        (M::And, K::Register, K::Register) => of(wide::<RegisterRegister<And>>),
        (M::And, K::Register, _) if is_immediate => of(wide::<RegisterImmediate<And>>),
        (M::Dec, K::Register, _) => of(wide::<Register<Dec>>),
        (M::Inc, K::Register, _) => of(wide::<Register<Inc>>),
        _ => None,
    }
}

fn sized<F: First>(bytes: usize, condition: u8) -> Option<Handler> {
    match bytes {
        1 => by_condition::<F, u8>(condition),
        2 => by_condition::<F, u16>(condition),
        _ => wide::<F>(bytes, condition),
    }
}

/// What programs hardly do on bytes and words.
fn wide<F: First>(bytes: usize, condition: u8) -> Option<Handler> {
    match bytes {
        4 => by_condition::<F, u32>(condition),
        8 => by_condition::<F, u64>(condition),
        _ => None,
    }
}

fn by_condition<F: First, W: Word>(condition: u8) -> Option<Handler> {
    macro_rules! table {
        ($($number:literal)*) => { [$(pair::<F, W, $number> as Handler),*] };
    }
    table!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15).get(usize::from(condition)).copied()
}
