//! Conversions between MMX and XMM registers: CVTPS2PI and its like, run under the guest's MXCSR.
//!
//! The CPU enters MMX state also where the conversion then raises an unmasked exception.

use super::mmx;
use super::operand::{self, Source, mm_register, raise_simd, xmm_register};
use super::{Xmm, mxcsr};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use crate::x87::control;
use crate::x87::handlers::wait;
use core::arch::asm;
use iced_x86::Mnemonic;

/// A conversion from an XMM operand to two integers in an MMX register.
pub trait ToMmx {
    /// Both integers, and MXCSR afterwards.
    fn run(source: Xmm, control: u32) -> (u64, u32);
}

/// A conversion from two integers to an XMM register.
pub trait FromMmx {
    /// What `target` becomes, and MXCSR afterwards.
    fn run(target: Xmm, source: u64, control: u32) -> (Xmm, u32);
}

macro_rules! conversions {
    (to: $($to:ident)*; from: $($from:ident)*) => {
        $(
            #[doc = concat!(stringify!($to), ".")]
            pub struct $to;
            impl ToMmx for $to {
                #[inline(always)]
                fn run(source: Xmm, control: u32) -> (u64, u32) {
                    let mut word = u64::from(control);
                    let value: u64;
                    // SAFETY: touches the stack and reads `DEFAULT`, nothing else; everything is masked in `control`, so
                    // nothing traps; the host's control word is back and the x87 stack empty at the end.
                    unsafe {
                        asm!("push {word}", "ldmxcsr [rsp]", concat!(stringify!($to), " mm0, {0}"), "stmxcsr [rsp]", "mov {word:e}, [rsp]", "lea rsp, [rsp + 8]", "ldmxcsr [{host}]",
                            "movq {value}, mm0", "emms", in(xmm_reg) source, value = out(reg) value, word = inout(reg) word,
                            host = in(reg) &mxcsr::DEFAULT, out("mm0") _, options(preserves_flags));
                    }
                    (value, word as u32)
                }
            }
        )*
        $(
            #[doc = concat!(stringify!($from), ".")]
            pub struct $from;
            impl FromMmx for $from {
                #[inline(always)]
                fn run(target: Xmm, source: u64, control: u32) -> (Xmm, u32) {
                    let mut word = u64::from(control);
                    let mut value = target;
                    // SAFETY: touches the stack and reads `DEFAULT`, nothing else; everything is masked in `control`, so
                    // nothing traps; the host's control word is back and the x87 stack empty at the end.
                    unsafe {
                        asm!("movq mm0, {source}", "push {word}", "ldmxcsr [rsp]", concat!(stringify!($from), " {0}, mm0"),
                            "stmxcsr [rsp]", "mov {word:e}, [rsp]", "lea rsp, [rsp + 8]", "ldmxcsr [{host}]", "emms", inout(xmm_reg) value, source = in(reg) source,
                            word = inout(reg) word, host = in(reg) &mxcsr::DEFAULT, out("mm0") _,
                            options(preserves_flags));
                    }
                    (value, word as u32)
                }
            }
        )*
    };
}

conversions! {
    to: Cvtps2pi Cvttps2pi Cvtpd2pi Cvttpd2pi;
    from: Cvtpi2ps Cvtpi2pd
}

/// The handler of an instruction of this file.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    match draft.instruction.mnemonic() {
        Mnemonic::Cvtps2pi => to_mmx::<Cvtps2pi>(draft),
        Mnemonic::Cvttps2pi => to_mmx::<Cvttps2pi>(draft),
        Mnemonic::Cvtpd2pi => to_mmx::<Cvtpd2pi>(draft),
        Mnemonic::Cvttpd2pi => to_mmx::<Cvttpd2pi>(draft),
        Mnemonic::Cvtpi2ps => from_mmx::<Cvtpi2ps>(draft),
        Mnemonic::Cvtpi2pd => from_mmx::<Cvtpi2pd>(draft),
        _ => None,
    }
}

fn to_mmx<N: ToMmx>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = mm_register(draft, 0)?;
    if let Some(src) = xmm_register(draft, 1) {
        draft.op.src = src;
        return Some(run_to::<N, operand::Register16>);
    }
    Some(if draft.size(1) == 16 {
        run_to::<N, operand::Aligned>
    } else {
        run_to::<N, operand::Memory8>
    })
}

/// From memory these do not enter MMX state.
fn from_mmx<N: FromMmx>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    let Some(src) = mm_register(draft, 1) else { return Some(run_from::<N, mmx::Memory8, false>) };
    draft.op.src = src;
    Some(run_from::<N, mmx::Register, true>)
}

fn run_to<N: ToMmx, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let (value, raised) = N::run(source, mxcsr::masked(cpu.fx.mxcsr));
    control::enter_mmx(&mut cpu.fx);
    if mxcsr::settle(&mut cpu.fx.mxcsr, raised, |_| 0).is_err() {
        return raise_simd(cpu, at);
    }
    mmx::set(cpu, at.dst, value);
    at.next(cpu)
}

fn run_from<N: FromMmx, S: mmx::Source, const ENTERS: bool>(cpu: &mut Cpu, at: At) -> Next {
    if ENTERS {
        attempt!(cpu, at, wait(cpu));
    }
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let (value, raised) = N::run(operand::get(cpu, at.dst), source, mxcsr::masked(cpu.fx.mxcsr));
    if ENTERS {
        control::enter_mmx(&mut cpu.fx);
    }
    if mxcsr::settle(&mut cpu.fx.mxcsr, raised, |_| 0).is_err() {
        return raise_simd(cpu, at);
    }
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}
