//! Comparisons that end in the arithmetic flags: (U)COMISS, (U)COMISD, PTEST, and the string comparisons of SSE4.2.

use super::immediate::{Table, row, table};
use super::{Xmm, mxcsr};
use crate::state::Flags;
use core::arch::asm;

/// A floating-point comparison of two scalars.
pub trait Compare {
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
                fn run(left: Xmm, right: Xmm, control: u32) -> (Flags, u32) {
                    let mut word = control;
                    let after: u16;
                    // SAFETY: reads and writes `word` and reads `DEFAULT`, nothing else; everything is masked in `control`, so
                    // nothing traps; the host's control word is back at the end.
                    unsafe {
                        asm!("ldmxcsr [{word}]", concat!(stringify!($name), " {0}, {1}"), "lahf", "seto al", "stmxcsr [{word}]",
                            "ldmxcsr [{host}]", in(xmm_reg) left, in(xmm_reg) right, word = in(reg) &mut word,
                            host = in(reg) &mxcsr::DEFAULT, out("ax") after, options(nostack));
                    }
                    (Flags(after), word)
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
    let magnitude = if wide { (register as i64).unsigned_abs() } else { u64::from((register as i32).unsigned_abs()) };
    magnitude.min(16)
}
