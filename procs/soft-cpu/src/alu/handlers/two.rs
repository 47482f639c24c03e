//! Two operands of one width: ADD ADC SUB SBB CMP AND OR XOR TEST.

use crate::alu::{Word, locked};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Next};
use crate::state::Flags;

/// What one of these instructions computes.
pub trait Two {
    /// Whether the first operand is written; comparisons only set flags.
    const WRITES: bool = true;
    /// Value and flags.
    fn run<W: Word>(first: W, second: W, before: Flags) -> (W, Flags);
}

macro_rules! two {
    ($($name:ident $writes:literal |$first:ident, $second:ident, $before:pat_param| $run:expr;)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Two for $name {
                const WRITES: bool = $writes;
                #[inline(always)]
                fn run<W: Word>($first: W, $second: W, $before: Flags) -> (W, Flags) {
                    $run
                }
            }
        )*
    };
}

two! {
    Add true |first, second, _| first.add(second);
    Adc true |first, second, before| first.adc(second, before);
    Sub true |first, second, _| first.sub(second);
    Sbb true |first, second, before| first.sbb(second, before);
    Cmp false |first, second, _| first.sub(second);
    And true |first, second, _| first.and(second);
    Or true |first, second, _| first.or(second);
    Xor true |first, second, _| first.xor(second);
    Test false |first, second, _| first.and(second);
}

#[inline(always)]
fn to_register<O: Two, W: Word>(cpu: &mut Cpu, at: At, second: W) -> Next {
    let (value, flags) = O::run(cpu.regs.get::<W>(at.dst), second, cpu.flags);
    if O::WRITES {
        cpu.regs.set(at.dst, value);
    }
    cpu.flags = flags;
    at.next(cpu)
}

#[inline(always)]
fn to_memory<O: Two, W: Word>(cpu: &mut Cpu, at: At, second: W) -> Next {
    if O::WRITES {
        attempt!(
            cpu,
            at,
            cpu.modify::<W>(at, |cpu, first| {
                let (value, flags) = O::run(first, second, cpu.flags);
                cpu.flags = flags;
                value
            })
        );
    } else {
        let first = attempt!(cpu, at, cpu.read::<W>(at));
        cpu.flags = O::run(first, second, cpu.flags).1;
    }
    at.next(cpu)
}

#[inline(always)]
fn to_memory_locked<O: Two, W: Word>(cpu: &mut Cpu, at: At, second: W) -> Next {
    let Some(place) = attempt!(cpu, at, cpu.lockable(at, W::BYTES as u32)) else {
        return to_memory::<O, W>(cpu, at, second);
    };
    let before = cpu.flags;
    let mut after = before;
    let change = |first| {
        let (value, flags) = O::run(first, second, before);
        after = flags;
        value
    };
    // SAFETY: `lockable` proved that these bytes are guest RAM that may be written.
    unsafe { locked::update::<W>(place, change) };
    cpu.flags = after;
    at.next(cpu)
}

/// `op r, r`.
pub fn register_register<O: Two, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let second = cpu.regs.get(at.src);
    to_register::<O, W>(cpu, at, second)
}

/// `op r, imm`.
pub fn register_immediate<O: Two, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    to_register::<O, W>(cpu, at, W::truncate(at.imm))
}

/// `op r, m`.
pub fn register_memory<O: Two, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let second = attempt!(cpu, at, cpu.read(at));
    to_register::<O, W>(cpu, at, second)
}

/// `op m, r`.
pub fn memory_register<O: Two, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let second = cpu.regs.get(at.src);
    to_memory::<O, W>(cpu, at, second)
}

/// `op m, imm`.
pub fn memory_immediate<O: Two, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    to_memory::<O, W>(cpu, at, W::truncate(at.imm))
}

/// `lock op m, r`.
pub fn locked_register<O: Two, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let second = cpu.regs.get(at.src);
    to_memory_locked::<O, W>(cpu, at, second)
}

/// `lock op m, imm`.
pub fn locked_immediate<O: Two, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    to_memory_locked::<O, W>(cpu, at, W::truncate(at.imm))
}
