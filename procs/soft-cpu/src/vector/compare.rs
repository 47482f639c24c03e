//! Comparisons that end in the arithmetic flags: (U)COMISS, (U)COMISD, PTEST, and the string comparisons of SSE4.2.

use super::immediate::{Table, entry, row, table};
use super::operand::{self, Source, Unaligned, by_source, raise_simd, xmm_register};
use super::{Xmm, mxcsr};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use crate::state::{Flags, Reg};
use core::arch::asm;
use iced_x86::{Code, Mnemonic};

/// A floating-point comparison of two scalars.
pub trait Compare {
    /// All six flags under the word that Rust code runs under, and MXCSR before and afterwards.
    fn run_default(left: Xmm, right: Xmm) -> (Flags, u32, u32);
    /// All six flags, and MXCSR afterwards.
    fn run(left: Xmm, right: Xmm, control: u32) -> (Flags, u32);
}

macro_rules! compare {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Compare for $name {
                #[inline(always)]
                fn run_default(left: Xmm, right: Xmm) -> (Flags, u32, u32) {
                    let (before, after): (u32, u32);
                    let flags: u16;
                    // SAFETY: touches the stack only; everything is masked in the host's word, so nothing traps.
                    unsafe {
                        asm!("lea rsp, [rsp - 8]", "stmxcsr [rsp]", concat!(stringify!($name), " {0}, {1}"), "lahf", "seto al",
                            "stmxcsr [rsp + 4]", "mov {before:e}, [rsp]", "mov {after:e}, [rsp + 4]", "lea rsp, [rsp + 8]",
                            in(xmm_reg) left, in(xmm_reg) right, before = out(reg) before, after = out(reg) after,
                            out("ax") flags);
                    }
                    (Flags(flags), before, after)
                }
                #[inline(always)]
                fn run(left: Xmm, right: Xmm, control: u32) -> (Flags, u32) {
                    let mut word = u64::from(control);
                    let after: u16;
                    // SAFETY: touches the stack and reads `DEFAULT`, nothing else; everything is masked in `control`, so
                    // nothing traps; the host's control word is back at the end.
                    unsafe {
                        asm!("push {word}", "ldmxcsr [rsp]", concat!(stringify!($name), " {0}, {1}"), "lahf", "seto al", "stmxcsr [rsp]", "mov {word:e}, [rsp]", "lea rsp, [rsp + 8]",
                            "ldmxcsr [{host}]", in(xmm_reg) left, in(xmm_reg) right, word = inout(reg) word,
                            host = in(reg) &mxcsr::DEFAULT, out("ax") after);
                    }
                    (Flags(after), word as u32)
                }
            }
        )*
    };
}

compare! { Comiss Comisd Ucomiss Ucomisd }

/// PTEST: ZF says that `left & right` is zero, CF that `!left & right` is.
#[inline(always)]
pub fn ptest(left: Xmm, right: Xmm) -> Flags {
    let after: u16;
    // SAFETY: arithmetic on registers; the host has SSE4.1, which the engine checks before it starts.
    unsafe {
        asm!("ptest {0}, {1}", "lahf", "seto al", in(xmm_reg) left, in(xmm_reg) right, out("ax") after,
            options(pure, nomem, nostack));
    }
    Flags(after)
}

/// What a string comparison leaves: ECX (or nothing), XMM0 (or nothing), flags. Takes both strings and both lengths.
pub type Strings = fn(Xmm, Xmm, u64, u64) -> (u32, Xmm, Flags);

/// PCMPESTRI, PCMPESTRM, PCMPISTRI or PCMPISTRM.
pub trait CompareStrings {
    /// By immediate.
    const TABLE: Table<Strings>;
}

macro_rules! strings {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl CompareStrings for $name {
                const TABLE: Table<Strings> = {
                    fn run<const HIGH: u8, const LOW: u8>(left: Xmm, right: Xmm, a: u64, d: u64) -> (u32, Xmm, Flags) {
                        let index: u32;
                        let mask: Xmm;
                        let after: u64;
                        // SAFETY: arithmetic on registers; the host has SSE4.2, which the engine checks before it starts.
                        unsafe {
                            asm!(concat!(stringify!($name), " {0}, {1}, {imm}"), "lahf", "seto al",
                                in(xmm_reg) left, in(xmm_reg) right, imm = const HIGH * 16 + LOW,
                                inout("rax") a => after, in("rdx") d, out("ecx") index, out("xmm0") mask,
                                options(pure, nomem, nostack));
                        }
                        (index, mask, Flags(after as u16))
                    }
                    table!(run)
                };
            }
        )*
    };
}

strings! { Pcmpistri Pcmpistrm Pcmpestri Pcmpestrm }

/// An explicit length as the functions above take it. Without REX.W the CPU reads EAX and EDX, with it RAX and RDX; either way
/// the magnitude counts, and anything above 16 counts as 16.
#[inline(always)]
pub fn length(register: u64, wide: bool) -> u64 {
    let magnitude = if wide {
        (register as i64).unsigned_abs()
    } else {
        u64::from((register as i32).unsigned_abs())
    };
    magnitude.min(16)
}

/// The handler of an instruction of this file.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    use Code as C;
    match draft.instruction.mnemonic() {
        Mnemonic::Comiss => compare::<Comiss>(draft),
        Mnemonic::Comisd => compare::<Comisd>(draft),
        Mnemonic::Ucomiss => compare::<Ucomiss>(draft),
        Mnemonic::Ucomisd => compare::<Ucomisd>(draft),
        Mnemonic::Ptest => {
            draft.op.dst = xmm_register(draft, 0)?;
            by_source!(draft, 1, run_ptest)
        }
        _ => match draft.instruction.code() {
            C::Pcmpistri_xmm_xmmm128_imm8 => strings::<Pcmpistri, false, false>(draft),
            C::Pcmpistrm_xmm_xmmm128_imm8 => strings::<Pcmpistrm, true, false>(draft),
            C::Pcmpestri_xmm_xmmm128_imm8 => strings::<Pcmpestri, false, false>(draft),
            C::Pcmpestrm_xmm_xmmm128_imm8 => strings::<Pcmpestrm, true, false>(draft),
            C::Pcmpestri64_xmm_xmmm128_imm8 => strings::<Pcmpestri, false, true>(draft),
            C::Pcmpestrm64_xmm_xmmm128_imm8 => strings::<Pcmpestrm, true, true>(draft),
            _ => None,
        },
    }
}

fn compare<N: Compare>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    by_source!(draft, 1, run_compare, N)
}

fn strings<N: CompareStrings, const MASK: bool, const WIDE: bool>(
    draft: &mut Draft<'_>,
) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    draft.op.imm = draft.immediate(2)?;
    if draft.is_memory(1) {
        return Some(run_strings::<N, Unaligned, MASK, WIDE>);
    }
    draft.op.src = xmm_register(draft, 1)?;
    Some(run_strings::<N, operand::Register16, MASK, WIDE>)
}

fn run_compare<N: Compare, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let right = attempt!(cpu, at, S::fetch(cpu, at));
    let left = operand::get(cpu, at.dst);
    if mxcsr::is_default(cpu.fx.mxcsr) {
        let (flags, before, after) = N::run_default(left, right);
        if mxcsr::settle_default(&mut cpu.fx.mxcsr, before, after) {
            cpu.flags = flags;
            return at.next(cpu);
        }
    }
    let (flags, raised) = N::run(left, right, mxcsr::masked(cpu.fx.mxcsr));
    // Comparisons never underflow.
    if mxcsr::settle(&mut cpu.fx.mxcsr, raised, |_| 0).is_err() {
        return raise_simd(cpu, at);
    }
    cpu.flags = flags;
    at.next(cpu)
}

fn run_ptest<S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let right = attempt!(cpu, at, S::fetch(cpu, at));
    cpu.flags = ptest(operand::get(cpu, at.dst), right);
    at.next(cpu)
}

fn run_strings<N: CompareStrings, S: Source, const MASK: bool, const WIDE: bool>(
    cpu: &mut Cpu,
    at: At,
) -> Next {
    let right = attempt!(cpu, at, S::fetch(cpu, at));
    let a = length(cpu.regs.get(Reg::RAX), WIDE);
    let d = length(cpu.regs.get(Reg::RDX), WIDE);
    let (index, mask, flags) =
        entry(const { &N::TABLE }, at.imm)(operand::get(cpu, at.dst), right, a, d);
    if MASK {
        operand::set(cpu, Reg(0), mask);
    } else {
        cpu.regs.set::<u32>(Reg::RCX, index);
    }
    cpu.flags = flags;
    at.next(cpu)
}
