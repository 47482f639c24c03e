//! Instructions on MMX registers: `op mm, mm`, `op mm, mm, imm8`, and the conversions between MM and XMM.
//!
//! They run on the host's MMX registers, and each ends with EMMS, since Rust code expects the x87 stack empty. What MMX does to
//! the guest's x87 state (top of stack 0, all tags valid, exponents all ones) is the handlers' part.

use super::immediate::{Table, row, table};
use super::{Xmm, mxcsr};
use core::arch::asm;

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
        /// Runs `$mac!(Name Name …)` with every `op mm, mm` instruction.
        #[macro_export]
        #[doc(hidden)]
        macro_rules! for_each_mmx { ($mac:ident) => { $mac! { $($name)* } } }
    };
}

combine! {
    Paddb Paddw Paddd Paddq Psubb Psubw Psubd Psubq Paddsb Paddsw Paddusb Paddusw Psubsb Psubsw Psubusb Psubusw
    Pmullw Pmulhw Pmulhuw Pmuludq Pmaddwd Pand Pandn Por Pxor Pcmpeqb Pcmpeqw Pcmpeqd Pcmpgtb Pcmpgtw Pcmpgtd
    Psllw Pslld Psllq Psrlw Psrld Psrlq Psraw Psrad Packsswb Packssdw Packuswb Punpcklbw Punpcklwd Punpckldq
    Punpckhbw Punpckhwd Punpckhdq Pavgb Pavgw Pmaxub Pmaxsw Pminub Pminsw Psadbw
    Pshufb Phaddw Phaddd Phaddsw Phsubw Phsubd Phsubsw Pmaddubsw Pmulhrsw Psignb Psignw Psignd Pabsb Pabsw Pabsd
}

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

/// PMOVMSKB from an MMX register.
#[inline(always)]
pub fn pmovmskb(source: u64) -> u64 {
    (source & 0x8080_8080_8080_8080).wrapping_mul(0x0002_0408_1020_4081) >> 56
}

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
                    let mut word = control;
                    let value: u64;
                    // SAFETY: reads and writes `word` and reads `DEFAULT`, nothing else; everything is masked in `control`, so
                    // nothing traps; the host's control word is back and the x87 stack empty at the end.
                    unsafe {
                        asm!("ldmxcsr [{word}]", concat!(stringify!($to), " mm0, {0}"), "stmxcsr [{word}]", "ldmxcsr [{host}]",
                            "movq {value}, mm0", "emms", in(xmm_reg) source, value = out(reg) value, word = in(reg) &mut word,
                            host = in(reg) &mxcsr::DEFAULT, out("mm0") _, options(nostack, preserves_flags));
                    }
                    (value, word)
                }
            }
        )*
        $(
            #[doc = concat!(stringify!($from), ".")]
            pub struct $from;
            impl FromMmx for $from {
                #[inline(always)]
                fn run(target: Xmm, source: u64, control: u32) -> (Xmm, u32) {
                    let mut word = control;
                    let mut value = target;
                    // SAFETY: reads and writes `word` and reads `DEFAULT`, nothing else; everything is masked in `control`, so
                    // nothing traps; the host's control word is back and the x87 stack empty at the end.
                    unsafe {
                        asm!("movq mm0, {source}", "ldmxcsr [{word}]", concat!(stringify!($from), " {0}, mm0"),
                            "stmxcsr [{word}]", "ldmxcsr [{host}]", "emms", inout(xmm_reg) value, source = in(reg) source,
                            word = in(reg) &mut word, host = in(reg) &mxcsr::DEFAULT, out("mm0") _,
                            options(nostack, preserves_flags));
                    }
                    (value, word)
                }
            }
        )*
    };
}

conversions! {
    to: Cvtps2pi Cvttps2pi Cvtpd2pi Cvttpd2pi;
    from: Cvtpi2ps Cvtpi2pd
}
