//! DIV and IDIV.
//!
//! The flags are undefined afterwards and stay as they were.

use super::product::high_half;
use crate::alu::Word;
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::Exception;
use crate::op::{At, Next};
use crate::state::Reg;

/// DIV or IDIV.
pub trait Quotient {
    /// Quotient and remainder, or a divide error.
    fn run<W: Word>(low: W, high: W, divisor: W) -> Option<(W, W)>;
}

/// DIV.
pub struct Div;
impl Quotient for Div {
    #[inline(always)]
    fn run<W: Word>(low: W, high: W, divisor: W) -> Option<(W, W)> {
        W::div(low, high, divisor)
    }
}

/// IDIV.
pub struct Idiv;
impl Quotient for Idiv {
    #[inline(always)]
    fn run<W: Word>(low: W, high: W, divisor: W) -> Option<(W, W)> {
        W::idiv(low, high, divisor)
    }
}

#[inline(always)]
fn divide<O: Quotient, W: Word>(cpu: &mut Cpu, at: At, divisor: W) -> Next {
    let (low, high) = (cpu.regs.get(Reg::RAX), cpu.regs.get(high_half::<W>()));
    let Some((quotient, remainder)) = O::run::<W>(low, high, divisor) else {
        return cpu.raise(at, Exception::DE);
    };
    cpu.regs.set(Reg::RAX, quotient);
    cpu.regs.set(high_half::<W>(), remainder);
    at.next(cpu)
}

/// `op r`.
pub fn register<O: Quotient, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let divisor = cpu.regs.get(at.src);
    divide::<O, W>(cpu, at, divisor)
}

/// `op m`.
pub fn memory<O: Quotient, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let divisor = attempt!(cpu, at, cpu.read(at));
    divide::<O, W>(cpu, at, divisor)
}
