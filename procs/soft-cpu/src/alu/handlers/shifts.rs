//! Shifts and rotations: SHL SHR SAR ROL ROR RCL RCR by CL or an immediate, SHLD SHRD.
//!
//! The count comes from register `src`: CL, or, for an immediate, the always-zero register plus `imm`. A count of zero writes
//! its operand all the same, as the CPU does: memory must be writable, and a 32-bit register loses its upper half.

use crate::alu::{DoubleShift, Wide, Word};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Next};
use crate::state::{Flags, Reg};

/// What one of these instructions computes.
pub trait Turn {
    /// By an immediate above 1, a register's rotation leaves OF, which is undefined then, as it was: so do
    /// the hosts that were looked at, and compiled code does what they do.
    const KEEPS_OVERFLOW: bool = false;
    /// Value and flags.
    fn run<W: Word>(value: W, count: u8, before: Flags) -> (W, Flags);
}

/// SHL, SHR or SAR by a count that is not zero.
pub trait Shifting {
    /// Value and flags.
    fn run<W: Word>(value: W, count: u8) -> (W, Flags);
}

/// What SHLD or SHRD computes.
pub trait DoubleTurn {
    /// Value and flags.
    fn run<W: DoubleShift>(value: W, filler: W, count: u8, before: Flags) -> (W, Flags);
}

macro_rules! turns {
    ($($name:ident $function:ident $keeps:literal)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Turn for $name {
                const KEEPS_OVERFLOW: bool = $keeps;
                #[inline(always)]
                fn run<W: Word>(value: W, count: u8, before: Flags) -> (W, Flags) {
                    value.$function(count, before)
                }
            }
        )*
    };
}
turns! { Shl shl false Shr shr false Sar sar false Rol rol true Ror ror true Rcl rcl false Rcr rcr false }

macro_rules! shifting {
    ($($name:ident $function:ident)*) => {
        $(
            impl Shifting for $name {
                #[inline(always)]
                fn run<W: Word>(value: W, count: u8) -> (W, Flags) {
                    value.$function(count)
                }
            }
        )*
    };
}
shifting! { Shl shl_by Shr shr_by Sar sar_by }

/// SHLD.
pub struct Shld;
impl DoubleTurn for Shld {
    #[inline(always)]
    fn run<W: DoubleShift>(value: W, filler: W, count: u8, before: Flags) -> (W, Flags) {
        value.shld(filler, count, before)
    }
}

/// SHRD.
pub struct Shrd;
impl DoubleTurn for Shrd {
    #[inline(always)]
    fn run<W: DoubleShift>(value: W, filler: W, count: u8, before: Flags) -> (W, Flags) {
        value.shrd(filler, count, before)
    }
}

/// `op r, imm8`.
pub fn register_immediate<O: Turn, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let before = cpu.flags;
    let (value, mut flags) = O::run(cpu.regs.get::<W>(at.dst), at.imm as u8, before);
    let mask = if W::BYTES == 8 { 0x3f } else { 0x1f };
    if O::KEEPS_OVERFLOW && at.imm & mask > 1 {
        flags.set_of(before.of());
    }
    cpu.regs.set(at.dst, value);
    cpu.flags = flags;
    at.next(cpu)
}

/// `op r, imm8` where the immediate is not zero: does not wait for earlier flags.
pub fn register_by<O: Shifting, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let (value, flags) = O::run(cpu.regs.get::<W>(at.dst), at.imm as u8);
    cpu.regs.set(at.dst, value);
    cpu.flags = flags;
    at.next(cpu)
}

/// `op r, cl`.
pub fn register_cl<O: Turn, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let count = cpu.regs.get(Reg::RCX);
    let (value, flags) = O::run(cpu.regs.get::<W>(at.dst), count, cpu.flags);
    cpu.regs.set(at.dst, value);
    cpu.flags = flags;
    at.next(cpu)
}

/// `op m, imm8` and `op m, cl`: `src` is CL or the zero register, `imm` is added.
pub fn memory<O: Turn, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let count = cpu.regs.get::<u8>(at.src).wrapping_add(at.imm as u8);
    attempt!(
        cpu,
        at,
        cpu.modify::<W>(at, |cpu, old| {
            let (value, flags) = O::run(old, count, cpu.flags);
            cpu.flags = flags;
            value
        })
    );
    at.next(cpu)
}

/// The count of SHLD and SHRD: CL where `imm` is [`BY_CL`], else `imm`.
#[inline(always)]
fn count(cpu: &Cpu, at: At) -> u8 {
    if at.imm == BY_CL { cpu.regs.get(Reg::RCX) } else { at.imm as u8 }
}

/// Not an 8-bit immediate, so it can stand for CL.
pub const BY_CL: u64 = 0x100;

/// `op r, r, imm8` and `op r, r, cl`.
pub fn double_register<O: DoubleTurn, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let count = count(cpu, at);
    let (value, flags) = O::run::<W>(cpu.regs.get(at.dst), cpu.regs.get(at.src), count, cpu.flags);
    cpu.regs.set(at.dst, value);
    cpu.flags = flags;
    at.next(cpu)
}

/// `op m, r, imm8` and `op m, r, cl`.
pub fn double_memory<O: DoubleTurn, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let count = count(cpu, at);
    let filler = cpu.regs.get(at.src);
    attempt!(
        cpu,
        at,
        cpu.modify::<W>(at, |cpu, old| {
            let (value, flags) = O::run(old, filler, count, cpu.flags);
            cpu.flags = flags;
            value
        })
    );
    at.next(cpu)
}
