//! Between XMM registers and general registers: conversions of integers, and the sign masks.
//!
//! Plain moves (MOVD, MOVQ, PINSRx, PEXTRx) are no arithmetic: the handlers do them on the register's bytes.

use super::operand::{self, Source, by_source, raise_simd, xmm_register};
use super::{Xmm, mxcsr};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use core::arch::asm;
use iced_x86::Mnemonic;

/// A conversion of a scalar to a signed integer.
pub trait ToInteger {
    /// 32 bits (zero-extended), and MXCSR afterwards.
    fn run32(source: Xmm, control: u32) -> (u64, u32);
    /// 64 bits, and MXCSR afterwards.
    fn run64(source: Xmm, control: u32) -> (u64, u32);
}

/// A conversion of a signed integer to a scalar, the rest of the register kept.
pub trait FromInteger {
    /// From 32 bits, and MXCSR afterwards.
    fn run32(target: Xmm, source: u64, control: u32) -> (Xmm, u32);
    /// From 64 bits, and MXCSR afterwards.
    fn run64(target: Xmm, source: u64, control: u32) -> (Xmm, u32);
}

/// A mask of the sign bits of lanes.
pub trait SignMask {
    /// One bit for each lane.
    fn run(source: Xmm) -> u64;
}

macro_rules! to_integer {
    ($name:ident, $function:ident, $size:literal) => {
        #[inline(always)]
        fn $function(source: Xmm, control: u32) -> (u64, u32) {
            let mut word = u64::from(control);
            let value: u64;
            // SAFETY: touches the stack and reads `DEFAULT`, nothing else; everything is masked in `control`, so nothing
            // traps; the host's control word is back at the end.
            unsafe {
                asm!("push {word}", "ldmxcsr [rsp]", concat!(stringify!($name), " {value", $size, "}, {0}"), "stmxcsr [rsp]", "mov {word:e}, [rsp]", "lea rsp, [rsp + 8]",
                    "ldmxcsr [{host}]", in(xmm_reg) source, value = out(reg) value, word = inout(reg) word,
                    host = in(reg) &mxcsr::DEFAULT, options(preserves_flags));
            }
            (value, word as u32)
        }
    };
}

macro_rules! from_integer {
    ($name:ident, $function:ident, $size:literal) => {
        #[inline(always)]
        fn $function(target: Xmm, source: u64, control: u32) -> (Xmm, u32) {
            let mut word = u64::from(control);
            let mut value = target;
            // SAFETY: touches the stack and reads `DEFAULT`, nothing else; everything is masked in `control`, so nothing
            // traps; the host's control word is back at the end.
            unsafe {
                asm!("push {word}", "ldmxcsr [rsp]", concat!(stringify!($name), " {0}, {source", $size, "}"), "stmxcsr [rsp]", "mov {word:e}, [rsp]", "lea rsp, [rsp + 8]",
                    "ldmxcsr [{host}]", inout(xmm_reg) value, source = in(reg) source, word = inout(reg) word,
                    host = in(reg) &mxcsr::DEFAULT, options(preserves_flags));
            }
            (value, word as u32)
        }
    };
}

macro_rules! conversions {
    (to: $($to:ident)*; from: $($from:ident)*; masks: $($mask:ident)*) => {
        $(
            #[doc = concat!(stringify!($to), ".")]
            pub struct $to;
            impl ToInteger for $to {
                to_integer!($to, run32, ":e");
                to_integer!($to, run64, ":r");
            }
        )*
        $(
            #[doc = concat!(stringify!($from), ".")]
            pub struct $from;
            impl FromInteger for $from {
                from_integer!($from, run32, ":e");
                from_integer!($from, run64, ":r");
            }
        )*
        $(
            #[doc = concat!(stringify!($mask), ".")]
            pub struct $mask;
            impl SignMask for $mask {
                #[inline(always)]
                fn run(source: Xmm) -> u64 {
                    let value: u64;
                    // SAFETY: arithmetic on registers.
                    unsafe {
                        asm!(concat!(stringify!($mask), " {0:e}, {1}"), out(reg) value, in(xmm_reg) source,
                            options(pure, nomem, nostack, preserves_flags));
                    }
                    value
                }
            }
        )*
    };
}

conversions! {
    to: Cvtss2si Cvtsd2si Cvttss2si Cvttsd2si;
    from: Cvtsi2ss Cvtsi2sd;
    masks: Movmskps Movmskpd Pmovmskb
}

/// The handler of an instruction of this file.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    match draft.instruction.mnemonic() {
        Mnemonic::Cvtss2si => to_integer::<Cvtss2si>(draft),
        Mnemonic::Cvtsd2si => to_integer::<Cvtsd2si>(draft),
        Mnemonic::Cvttss2si => to_integer::<Cvttss2si>(draft),
        Mnemonic::Cvttsd2si => to_integer::<Cvttsd2si>(draft),
        Mnemonic::Cvtsi2ss => from_integer::<Cvtsi2ss>(draft),
        Mnemonic::Cvtsi2sd => from_integer::<Cvtsi2sd>(draft),
        Mnemonic::Movmskps => mask::<Movmskps>(draft),
        Mnemonic::Movmskpd => mask::<Movmskpd>(draft),
        Mnemonic::Pmovmskb => mask::<Pmovmskb>(draft),
        _ => None,
    }
}

fn to_integer<N: ToInteger>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = draft.register(0)?;
    if draft.size(0) == 8 {
        by_source!(draft, 1, run_to64, N)
    } else {
        by_source!(draft, 1, run_to32, N)
    }
}

fn from_integer<N: FromInteger>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    let is_wide = draft.size(1) == 8;
    let Some(src) = draft.register(1) else {
        return Some(if is_wide { run_from64_memory::<N> } else { run_from32_memory::<N> });
    };
    draft.op.src = src;
    Some(if is_wide { run_from64::<N> } else { run_from32::<N> })
}

fn mask<N: SignMask>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = draft.register(0)?;
    draft.op.src = xmm_register(draft, 1)?;
    Some(run_mask::<N>)
}

fn run_to32<N: ToInteger, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let (value, raised) = N::run32(source, mxcsr::masked(cpu.fx.mxcsr));
    finish_integer(cpu, at, value, raised)
}

fn run_to64<N: ToInteger, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let (value, raised) = N::run64(source, mxcsr::masked(cpu.fx.mxcsr));
    finish_integer(cpu, at, value, raised)
}

#[inline(always)]
fn finish_integer(cpu: &mut Cpu, at: At, value: u64, raised: u32) -> Next {
    // Integers never underflow.
    if mxcsr::settle(&mut cpu.fx.mxcsr, raised, |_| 0).is_err() {
        return raise_simd(cpu, at);
    }
    cpu.regs.set(at.dst, value);
    at.next(cpu)
}

fn run_from32<N: FromInteger>(cpu: &mut Cpu, at: At) -> Next {
    let source = cpu.regs.get::<u32>(at.src);
    finish_scalar(cpu, at, |target, control| N::run32(target, source.into(), control))
}

fn run_from64<N: FromInteger>(cpu: &mut Cpu, at: At) -> Next {
    let source = cpu.regs.get::<u64>(at.src);
    finish_scalar(cpu, at, |target, control| N::run64(target, source, control))
}

fn run_from32_memory<N: FromInteger>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, cpu.read::<u32>(at));
    finish_scalar(cpu, at, |target, control| N::run32(target, source.into(), control))
}

fn run_from64_memory<N: FromInteger>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, cpu.read::<u64>(at));
    finish_scalar(cpu, at, |target, control| N::run64(target, source, control))
}

#[inline(always)]
fn finish_scalar(cpu: &mut Cpu, at: At, run: impl Fn(Xmm, u32) -> (Xmm, u32)) -> Next {
    let (value, raised) = run(operand::get(cpu, at.dst), mxcsr::masked(cpu.fx.mxcsr));
    if mxcsr::settle(&mut cpu.fx.mxcsr, raised, |_| 0).is_err() {
        return raise_simd(cpu, at);
    }
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}

fn run_mask<N: SignMask>(cpu: &mut Cpu, at: At) -> Next {
    let value = N::run(operand::get(cpu, at.src));
    cpu.regs.set(at.dst, value);
    at.next(cpu)
}
