//! Instructions on MMX registers: `op mm, mm` and `op mm, mm, imm8`.
//!
//! They run on the host's MMX registers, and each ends with EMMS, since Rust code expects the x87 stack empty. What MMX does to
//! the guest's x87 state (top of stack 0, all tags valid, exponents all ones) is `x87::control`'s, and like every x87
//! instruction these wait for a pending x87 exception.

use super::immediate::{Table, entry, row, table};
use super::operand::mm_register;
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use crate::state::Reg;
use crate::x87::control;
use crate::x87::handlers::wait;
use core::arch::asm;
use iced_x86::Mnemonic;

/// An instruction of the form `op mm, mm`.
pub trait Combine {
    /// What `target` becomes.
    fn run(target: u64, source: u64) -> u64;
}

macro_rules! combine {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Combine for $name {
                #[inline(always)]
                fn run(target: u64, source: u64) -> u64 {
                    let value: u64;
                    // SAFETY: arithmetic on registers; the x87 stack is empty again at the end.
                    unsafe {
                        asm!("movq mm0, {0}", "movq mm1, {1}", concat!(stringify!($name), " mm0, mm1"), "movq {2}, mm0", "emms",
                            in(reg) target, in(reg) source, lateout(reg) value, out("mm0") _, out("mm1") _,
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
                Mnemonic::Pshufw => immediate::<Pshufw>(draft),
                Mnemonic::Palignr => immediate::<Palignr>(draft),
                _ => None,
            }
        }
    };
}

with_mmx! { combine }

/// An instruction of the form `op mm, mm, imm8`.
pub trait Immediate {
    /// By immediate.
    const TABLE: Table<fn(u64, u64) -> u64>;
}

macro_rules! immediate {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Immediate for $name {
                const TABLE: Table<fn(u64, u64) -> u64> = {
                    fn run<const HIGH: u8, const LOW: u8>(target: u64, source: u64) -> u64 {
                        let value: u64;
                        // SAFETY: arithmetic on registers; the x87 stack is empty again at the end.
                        unsafe {
                            asm!("movq mm0, {0}", "movq mm1, {1}", concat!(stringify!($name), " mm0, mm1, {imm}"),
                                "movq {2}, mm0", "emms", in(reg) target, in(reg) source, lateout(reg) value,
                                imm = const HIGH * 16 + LOW, out("mm0") _, out("mm1") _,
                                options(pure, nomem, nostack, preserves_flags));
                        }
                        value
                    }
                    table!(run)
                };
            }
        )*
    };
}

immediate! { Pshufw Palignr }

/// Where an instruction's source comes from.
pub(super) trait Source {
    fn fetch(cpu: &mut Cpu, at: At) -> Result<u64, Raised>;
}

/// MMX register `src`.
pub(super) struct Register;
impl Source for Register {
    #[inline(always)]
    fn fetch(cpu: &mut Cpu, at: At) -> Result<u64, Raised> {
        Ok(get(cpu, at.src))
    }
}

/// 8 bytes of memory.
pub(super) struct Memory8;
impl Source for Memory8 {
    #[inline(always)]
    fn fetch(cpu: &mut Cpu, at: At) -> Result<u64, Raised> {
        cpu.read(at)
    }
}

/// 4 bytes of memory.
pub(super) struct Memory4;
impl Source for Memory4 {
    #[inline(always)]
    fn fetch(cpu: &mut Cpu, at: At) -> Result<u64, Raised> {
        cpu.read::<u32>(at).map(u64::from)
    }
}

/// An immediate: shifts by an immediate are shifts by a register that holds it.
struct Count;
impl Source for Count {
    #[inline(always)]
    fn fetch(_cpu: &mut Cpu, at: At) -> Result<u64, Raised> {
        Ok(at.imm & 0xff)
    }
}

/// Reads an MMX register; its number is in the `Reg`.
#[inline(always)]
pub(super) fn get(cpu: &Cpu, reg: Reg) -> u64 {
    control::mm(&cpu.fx, usize::from(reg.0))
}

/// Writes one, entering MMX state.
#[inline(always)]
pub(super) fn set(cpu: &mut Cpu, reg: Reg, value: u64) {
    control::enter_mmx(&mut cpu.fx);
    control::set_mm(&mut cpu.fx, usize::from(reg.0), value);
}

fn combine<N: Combine>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = mm_register(draft, 0)?;
    if let Some(count) = draft.immediate(1) {
        draft.op.imm = count;
        return Some(run::<N, Count>);
    }
    if let Some(src) = mm_register(draft, 1) {
        draft.op.src = src;
        return Some(run::<N, Register>);
    }
    Some(if draft.size(1) == 4 { run::<N, Memory4> } else { run::<N, Memory8> })
}

fn immediate<N: Immediate>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = mm_register(draft, 0)?;
    draft.op.imm = draft.immediate(2)?;
    let Some(src) = mm_register(draft, 1) else { return Some(run_immediate::<N, Memory8>) };
    draft.op.src = src;
    Some(run_immediate::<N, Register>)
}

fn run<N: Combine, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let value = N::run(get(cpu, at.dst), source);
    set(cpu, at.dst, value);
    at.next(cpu)
}

fn run_immediate<N: Immediate, S: Source>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let source = attempt!(cpu, at, S::fetch(cpu, at));
    let value = entry(const { &N::TABLE }, at.imm)(get(cpu, at.dst), source);
    set(cpu, at.dst, value);
    at.next(cpu)
}
