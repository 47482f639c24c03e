//! MUL and IMUL in all their forms.

use crate::alu::{Wide, Word};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Next};
use crate::state::{Flags, Reg};

/// MUL or IMUL with one operand.
pub trait Product {
    /// Low half, high half, flags.
    fn run<W: Word>(first: W, second: W) -> (W, W, Flags);
}

/// MUL.
pub struct Mul;
impl Product for Mul {
    #[inline(always)]
    fn run<W: Word>(first: W, second: W) -> (W, W, Flags) {
        first.mul(second)
    }
}

/// IMUL with one operand.
pub struct Imul;
impl Product for Imul {
    #[inline(always)]
    fn run<W: Word>(first: W, second: W) -> (W, W, Flags) {
        first.imul(second)
    }
}

/// Where the high half goes and the dividend's comes from: AH for bytes, else rDX.
pub fn high_half<W: Word>() -> Reg {
    if W::BYTES == 1 { Reg::AH } else { Reg::RDX }
}

#[inline(always)]
fn double<O: Product, W: Word>(cpu: &mut Cpu, at: At, second: W) -> Next {
    let (low, high, flags) = O::run::<W>(cpu.regs.get(Reg::RAX), second);
    cpu.regs.set(Reg::RAX, low);
    cpu.regs.set(high_half::<W>(), high);
    cpu.flags = flags;
    at.next(cpu)
}

/// `op r`.
pub fn register<O: Product, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let second = cpu.regs.get(at.src);
    double::<O, W>(cpu, at, second)
}

/// `op m`.
pub fn memory<O: Product, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let second = attempt!(cpu, at, cpu.read(at));
    double::<O, W>(cpu, at, second)
}

#[inline(always)]
fn low<W: Wide>(cpu: &mut Cpu, at: At, first: W, second: W) -> Next {
    let (value, flags) = first.imul_low(second);
    cpu.regs.set(at.dst, value);
    cpu.flags = flags;
    at.next(cpu)
}

/// `imul r, r`.
pub fn low_register<W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let (first, second) = (cpu.regs.get(at.dst), cpu.regs.get(at.src));
    low::<W>(cpu, at, first, second)
}

/// `imul r, m`.
pub fn low_memory<W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let second = attempt!(cpu, at, cpu.read(at));
    let first = cpu.regs.get(at.dst);
    low::<W>(cpu, at, first, second)
}

/// `imul r, r, imm`.
pub fn low_register_immediate<W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let first = cpu.regs.get(at.src);
    low::<W>(cpu, at, first, W::truncate(at.imm))
}

/// `imul r, m, imm`.
pub fn low_memory_immediate<W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let first = attempt!(cpu, at, cpu.read(at));
    low::<W>(cpu, at, first, W::truncate(at.imm))
}
