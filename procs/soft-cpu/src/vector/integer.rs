//! Instructions that combine two XMM registers into the first and look at nothing else.
//!
//! Integer arithmetic, logic, shuffles without an immediate, sign extensions, and AES. A narrower memory operand arrives
//! zero-extended in `source`; instructions that only write `target` get its old value all the same.

use super::operand::{self, Source, by_source, xmm_register};
use super::{Xmm, xmm};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use crate::state::Reg;
use core::arch::asm;
use iced_x86::Mnemonic;

/// An instruction of the form `op xmm, xmm`.
pub trait Combine {
    /// What `target` becomes.
    fn run(target: Xmm, source: Xmm) -> Xmm;
}

macro_rules! combine {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Combine for $name {
                #[inline(always)]
                fn run(target: Xmm, source: Xmm) -> Xmm {
                    let mut value = target;
                    // SAFETY: arithmetic on registers; the host has SSE4.2 and AES, which the engine checks before it starts.
                    unsafe {
                        asm!(concat!(stringify!($name), " {0}, {1}"), inout(xmm_reg) value, in(xmm_reg) source,
                            options(pure, nomem, nostack, preserves_flags));
                    }
                    value
                }
            }
        )*
        /// The handler of an instruction of this file.
        pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
            match draft.instruction.mnemonic() {
                $(Mnemonic::$name => combine::<$name>(draft),)*
                Mnemonic::Pblendvb => blend::<Pblendvb>(draft),
                Mnemonic::Blendvps => blend::<Blendvps>(draft),
                Mnemonic::Blendvpd => blend::<Blendvpd>(draft),
                _ => None,
            }
        }
    };
}

with_mmx! {
    combine
    Punpcklqdq Punpckhqdq Andps Andnps Orps Xorps Andpd Andnpd Orpd Xorpd Unpcklps Unpckhps Unpcklpd Unpckhpd Movddup
    Movshdup Movsldup Pmuldq Pmulld Pcmpeqq Pcmpgtq Packusdw Pminsb Pmaxsb Pminuw Pmaxuw Pminsd Pmaxsd Pminud Pmaxud
    Phminposuw Pmovsxbw Pmovsxbd Pmovsxbq Pmovsxwd Pmovsxwq Pmovsxdq Pmovzxbw Pmovzxbd Pmovzxbq Pmovzxwd Pmovzxwq
    Pmovzxdq Aesenc Aesenclast Aesdec Aesdeclast Aesimc
}

/// An instruction of the form `op xmm, xmm, <xmm0>`.
pub trait Blend {
    /// What `target` becomes, with XMM0 as the selector.
    fn run(target: Xmm, source: Xmm, selector: Xmm) -> Xmm;
}

macro_rules! blend {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Blend for $name {
                #[inline(always)]
                fn run(target: Xmm, source: Xmm, selector: Xmm) -> Xmm {
                    let mut value = target;
                    // SAFETY: arithmetic on registers; the host has SSE4.1, which the engine checks before it starts.
                    unsafe {
                        asm!(concat!(stringify!($name), " {0}, {1}, xmm0"), inout(xmm_reg) value, in(xmm_reg) source,
                            in("xmm0") selector, options(pure, nomem, nostack, preserves_flags));
                    }
                    value
                }
            }
        )*
    };
}

blend! { Pblendvb Blendvps Blendvpd }

fn combine<N: Combine>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    if let Some(count) = draft.immediate(1) {
        draft.op.imm = count;
        return Some(by_immediate::<N>);
    }
    by_source!(draft, 1, run, N)
}

fn blend<N: Blend>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    by_source!(draft, 1, run_blend, N)
}

fn run<N: Combine, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let value = N::run(operand::get(cpu, at.dst), source);
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}

/// Shifts by an immediate are shifts by a register that holds it.
fn by_immediate<N: Combine>(cpu: &mut Cpu, at: At) -> Next {
    let value = N::run(operand::get(cpu, at.dst), xmm(at.imm & 0xff, 0));
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}

fn run_blend<N: Blend, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let value = N::run(operand::get(cpu, at.dst), source, operand::get(cpu, Reg(0)));
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}
