//! One operand: INC DEC NEG NOT.

use crate::alu::{Word, locked};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Next};
use crate::state::Flags;

/// What one of these instructions computes.
pub trait One {
    /// Value and flags.
    fn run<W: Word>(value: W, before: Flags) -> (W, Flags);
}

/// INC.
pub struct Inc;
impl One for Inc {
    #[inline(always)]
    fn run<W: Word>(value: W, before: Flags) -> (W, Flags) {
        value.inc(before)
    }
}

/// DEC.
pub struct Dec;
impl One for Dec {
    #[inline(always)]
    fn run<W: Word>(value: W, before: Flags) -> (W, Flags) {
        value.dec(before)
    }
}

/// NEG.
pub struct Neg;
impl One for Neg {
    #[inline(always)]
    fn run<W: Word>(value: W, _before: Flags) -> (W, Flags) {
        value.neg()
    }
}

/// NOT: leaves the flags alone.
pub struct Not;
impl One for Not {
    #[inline(always)]
    fn run<W: Word>(value: W, before: Flags) -> (W, Flags) {
        (!value, before)
    }
}

/// `op r`.
pub fn register<O: One, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let (value, flags) = O::run(cpu.regs.get::<W>(at.dst), cpu.flags);
    cpu.regs.set(at.dst, value);
    cpu.flags = flags;
    at.next(cpu)
}

/// `op m`.
pub fn memory<O: One, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(
        cpu,
        at,
        cpu.modify::<W>(at, |cpu, old| {
            let (value, flags) = O::run(old, cpu.flags);
            cpu.flags = flags;
            value
        })
    );
    at.next(cpu)
}

/// `lock op m`.
pub fn locked<O: One, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let Some(place) = attempt!(cpu, at, cpu.lockable(at, W::BYTES as u32)) else {
        return memory::<O, W>(cpu, at);
    };
    let before = cpu.flags;
    let mut after = before;
    let change = |old| {
        let (value, flags) = O::run(old, before);
        after = flags;
        value
    };
    // SAFETY: `lockable` proved that these bytes are guest RAM that may be written.
    unsafe { locked::update::<W>(place, change) };
    cpu.flags = after;
    at.next(cpu)
}
