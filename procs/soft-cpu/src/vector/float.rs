//! Floating-point instructions of the form `op xmm, xmm`: arithmetic and conversions between vectors.
//!
//! Run under a control word the caller gives (`mxcsr::masked`); they return what they raised. One assembly block loads the
//! word, runs, reads the flags and restores the host's word, so no code of ours ever runs under the guest's rounding.

use super::operand::{self, Source, by_source, raise_simd, xmm_register};
use super::{Xmm, mxcsr};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use core::arch::asm;
use iced_x86::Mnemonic;

/// A floating-point instruction with two vector operands.
pub trait Float {
    /// What `target` becomes under the word that Rust code runs under, and MXCSR before and afterwards.
    fn run_default(target: Xmm, source: Xmm) -> (Xmm, u32, u32);
    /// What `target` becomes, and MXCSR afterwards.
    fn run(target: Xmm, source: Xmm, control: u32) -> (Xmm, u32);
}

macro_rules! float {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Float for $name {
                #[inline(always)]
                fn run_default(target: Xmm, source: Xmm) -> (Xmm, u32, u32) {
                    let mut value = target;
                    let (before, after): (u32, u32);
                    // SAFETY: touches the stack only; everything is masked in the host's word, so nothing traps.
                    unsafe {
                        asm!("lea rsp, [rsp - 8]", "stmxcsr [rsp]", concat!(stringify!($name), " {0}, {1}"), "stmxcsr [rsp + 4]",
                            "mov {before:e}, [rsp]", "mov {after:e}, [rsp + 4]", "lea rsp, [rsp + 8]",
                            inout(xmm_reg) value, in(xmm_reg) source, before = out(reg) before, after = out(reg) after,
                            options(preserves_flags));
                    }
                    (value, before, after)
                }
                #[inline(always)]
                fn run(target: Xmm, source: Xmm, control: u32) -> (Xmm, u32) {
                    let mut value = target;
                    let mut word = u64::from(control);
                    // SAFETY: touches the stack and reads `DEFAULT`, nothing else; everything is masked in `control`, so
                    // nothing traps; the host's control word is back at the end.
                    unsafe {
                        asm!("push {word}", "ldmxcsr [rsp]", concat!(stringify!($name), " {0}, {1}"), "stmxcsr [rsp]", "mov {word:e}, [rsp]", "lea rsp, [rsp + 8]", "ldmxcsr [{host}]",
                            inout(xmm_reg) value, in(xmm_reg) source, word = inout(reg) word, host = in(reg) &mxcsr::DEFAULT,
                            options(preserves_flags));
                    }
                    (value, word as u32)
                }
            }
        )*
        /// The handler of an instruction of this file.
        pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
            match draft.instruction.mnemonic() {
                $(Mnemonic::$name => float::<$name>(draft),)*
                _ => None,
            }
        }
    };
}

float! {
    Addps Addpd Addss Addsd Subps Subpd Subss Subsd Mulps Mulpd Mulss Mulsd Divps Divpd Divss Divsd
    Minps Minpd Minss Minsd Maxps Maxpd Maxss Maxsd Sqrtps Sqrtpd Sqrtss Sqrtsd Rcpps Rcpss Rsqrtps Rsqrtss
    Addsubps Addsubpd Haddps Haddpd Hsubps Hsubpd
    Cvtdq2ps Cvtps2dq Cvttps2dq Cvtdq2pd Cvtpd2dq Cvttpd2dq Cvtps2pd Cvtpd2ps Cvtss2sd Cvtsd2ss
}

fn float<N: Float>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    by_source!(draft, 1, run, N)
}

fn run<N: Float, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let target = operand::get(cpu, at.dst);
    if mxcsr::is_default(cpu.fx.mxcsr) {
        let (value, before, after) = N::run_default(target, source);
        if mxcsr::settle_default(&mut cpu.fx.mxcsr, before, after) {
            operand::set(cpu, at.dst, value);
            return at.next(cpu);
        }
    }
    let (value, raised) = N::run(target, source, mxcsr::masked(cpu.fx.mxcsr));
    let tiny = |control| N::run(target, source, control).1;
    if mxcsr::settle(&mut cpu.fx.mxcsr, raised, tiny).is_err() {
        return raise_simd(cpu, at);
    }
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}
