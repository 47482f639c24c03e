//! Instructions of the form `op xmm, xmm, imm8`.
//!
//! The immediate is part of the encoding, so each value is a function of its own, in a table of 256; the floating-point ones
//! run under the guest's MXCSR as those of `float` do. The shifts of whole registers (PSLLDQ, PSRLDQ) are two lines of
//! arithmetic and need no table; shifts of lanes by an immediate are those of `integer` with the count as source.

use super::operand::{self, Source, by_source, raise_simd, xmm_register};
use super::{Xmm, halves, mxcsr, xmm};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use core::arch::asm;
use iced_x86::Mnemonic;

/// One function for each immediate, found by its two digits.
pub type Table<F> = [[F; 16]; 16];
/// An instruction that looks at its operands only.
pub type Plain = fn(Xmm, Xmm) -> Xmm;
/// A floating-point instruction: also takes a control word, and returns MXCSR afterwards.
pub type Rounded = fn(Xmm, Xmm, u32) -> (Xmm, u32);

/// An instruction of the form `op xmm, xmm, imm8`.
pub trait Immediate {
    /// By immediate.
    const TABLE: Table<Plain>;
}

/// A floating-point instruction of the form `op xmm, xmm, imm8`.
pub trait RoundedImmediate {
    /// By immediate.
    const TABLE: Table<Rounded>;
}

macro_rules! row {
    ($function:ident, $high:literal) => {
        [
            $function::<$high, 0>,
            $function::<$high, 1>,
            $function::<$high, 2>,
            $function::<$high, 3>,
            $function::<$high, 4>,
            $function::<$high, 5>,
            $function::<$high, 6>,
            $function::<$high, 7>,
            $function::<$high, 8>,
            $function::<$high, 9>,
            $function::<$high, 10>,
            $function::<$high, 11>,
            $function::<$high, 12>,
            $function::<$high, 13>,
            $function::<$high, 14>,
            $function::<$high, 15>,
        ]
    };
}
macro_rules! table {
    ($function:ident) => {
        [
            row!($function, 0),
            row!($function, 1),
            row!($function, 2),
            row!($function, 3),
            row!($function, 4),
            row!($function, 5),
            row!($function, 6),
            row!($function, 7),
            row!($function, 8),
            row!($function, 9),
            row!($function, 10),
            row!($function, 11),
            row!($function, 12),
            row!($function, 13),
            row!($function, 14),
            row!($function, 15),
        ]
    };
}
pub(super) use {row, table};

macro_rules! immediate {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Immediate for $name {
                const TABLE: Table<Plain> = {
                    fn run<const HIGH: u8, const LOW: u8>(target: Xmm, source: Xmm) -> Xmm {
                        let mut value = target;
                        // SAFETY: arithmetic on registers; the host has SSE4.2, AES and PCLMUL, which the engine checks.
                        unsafe {
                            asm!(concat!(stringify!($name), " {0}, {1}, {imm}"), inout(xmm_reg) value, in(xmm_reg) source,
                                imm = const HIGH * 16 + LOW, options(pure, nomem, nostack, preserves_flags));
                        }
                        value
                    }
                    table!(run)
                };
            }
        )*
        fn select_plain(draft: &mut Draft<'_>) -> Option<Handler> {
            match draft.instruction.mnemonic() {
                $(Mnemonic::$name => plain::<$name>(draft),)*
                _ => None,
            }
        }
    };
}

immediate! {
    Pshufd Pshufhw Pshuflw Shufps Shufpd Palignr Blendps Blendpd Pblendw Mpsadbw Insertps Aeskeygenassist Pclmulqdq
}

macro_rules! rounded {
    ($($name:ident $mask:literal)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl RoundedImmediate for $name {
                const TABLE: Table<Rounded> = {
                    fn run<const HIGH: u8, const LOW: u8>(target: Xmm, source: Xmm, control: u32) -> (Xmm, u32) {
                        let mut value = target;
                        let mut word = u64::from(control);
                        // SAFETY: touches the stack and reads `DEFAULT`, nothing else; everything is masked in `control`,
                        // so nothing traps; the host's control word is back at the end.
                        unsafe {
                            asm!("push {word}", "ldmxcsr [rsp]", concat!(stringify!($name), " {0}, {1}, {imm}"), "stmxcsr [rsp]", "mov {word:e}, [rsp]", "lea rsp, [rsp + 8]",
                                "ldmxcsr [{host}]", inout(xmm_reg) value, in(xmm_reg) source, word = inout(reg) word,
                                host = in(reg) &mxcsr::DEFAULT, imm = const (HIGH * 16 + LOW) & $mask,
                                options(preserves_flags));
                        }
                        (value, word as u32)
                    }
                    table!(run)
                };
            }
        )*
        fn select_rounded(draft: &mut Draft<'_>) -> Option<Handler> {
            match draft.instruction.mnemonic() {
                $(Mnemonic::$name => rounded::<$name>(draft),)*
                _ => None,
            }
        }
    };
}

// The mask is what the CPU looks at: comparisons have eight predicates without VEX, roundings four bits.
rounded! {
    Cmpps 7 Cmppd 7 Cmpss 7 Cmpsd 7 Roundps 15 Roundpd 15 Roundss 15 Roundsd 15 Dpps 255 Dppd 255
}

/// The handler of an instruction of this file.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    let whole: Option<Handler> = match draft.instruction.mnemonic() {
        Mnemonic::Pslldq => Some(run_pslldq),
        Mnemonic::Psrldq => Some(run_psrldq),
        _ => None,
    };
    if whole.is_some() {
        draft.op.dst = xmm_register(draft, 0)?;
        draft.op.imm = draft.immediate(1)?;
        return whole;
    }
    select_plain(draft).or_else(|| select_rounded(draft))
}

fn plain<N: Immediate>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    let mut immediate = draft.immediate(2)?;
    if draft.instruction.mnemonic() == Mnemonic::Insertps && draft.is_memory(1) {
        // Memory has one lane only, whichever the immediate names.
        immediate &= 0x3f;
    }
    draft.op.imm = immediate;
    by_source!(draft, 1, run_plain, N)
}

fn rounded<N: RoundedImmediate>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    draft.op.imm = draft.immediate(2)?;
    by_source!(draft, 1, run_rounded, N)
}

/// The function for an immediate.
#[inline(always)]
pub(super) fn entry<F: Copy>(table: &Table<F>, immediate: u64) -> F {
    table[(immediate >> 4 & 15) as usize][(immediate & 15) as usize]
}

fn run_plain<N: Immediate, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let value = entry(const { &N::TABLE }, at.imm)(operand::get(cpu, at.dst), source);
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}

fn run_rounded<N: RoundedImmediate, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let target = operand::get(cpu, at.dst);
    let function = entry(const { &N::TABLE }, at.imm);
    let (value, raised) = function(target, source, mxcsr::masked(cpu.fx.mxcsr));
    let tiny = |control| function(target, source, control).1;
    if mxcsr::settle(&mut cpu.fx.mxcsr, raised, tiny).is_err() {
        return raise_simd(cpu, at);
    }
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}

fn run_pslldq(cpu: &mut Cpu, at: At) -> Next {
    let value = pslldq(operand::get(cpu, at.dst), at.imm as u8);
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}

fn run_psrldq(cpu: &mut Cpu, at: At) -> Next {
    let value = psrldq(operand::get(cpu, at.dst), at.imm as u8);
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}

/// PSLLDQ: the whole register left by `count` bytes.
#[inline(always)]
pub fn pslldq(value: Xmm, count: u8) -> Xmm {
    whole(value, |bits| bits.checked_shl(u32::from(count) * 8))
}

/// PSRLDQ: the whole register right by `count` bytes.
#[inline(always)]
pub fn psrldq(value: Xmm, count: u8) -> Xmm {
    whole(value, |bits| bits.checked_shr(u32::from(count) * 8))
}

#[inline(always)]
fn whole(value: Xmm, shift: impl Fn(u128) -> Option<u128>) -> Xmm {
    let [low, high] = halves(value);
    let bits = shift(u128::from(high) << 64 | u128::from(low)).unwrap_or(0);
    xmm(bits as u64, (bits >> 64) as u64)
}
