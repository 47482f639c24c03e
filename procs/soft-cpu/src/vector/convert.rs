//! Between XMM registers and general registers: conversions of integers, and the sign masks.
//!
//! Plain moves (MOVD, MOVQ, PINSRx, PEXTRx) are no arithmetic: the handlers do them on the register's bytes.

use super::{Xmm, mxcsr};
use core::arch::asm;

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
            let mut word = control;
            let value: u64;
            // SAFETY: reads and writes `word` and reads `DEFAULT`, nothing else; everything is masked in `control`, so nothing
            // traps; the host's control word is back at the end.
            unsafe {
                asm!("ldmxcsr [{word}]", concat!(stringify!($name), " {value", $size, "}, {0}"), "stmxcsr [{word}]",
                    "ldmxcsr [{host}]", in(xmm_reg) source, value = out(reg) value, word = in(reg) &mut word,
                    host = in(reg) &mxcsr::DEFAULT, options(nostack, preserves_flags));
            }
            (value, word)
        }
    };
}

macro_rules! from_integer {
    ($name:ident, $function:ident, $size:literal) => {
        #[inline(always)]
        fn $function(target: Xmm, source: u64, control: u32) -> (Xmm, u32) {
            let mut word = control;
            let mut value = target;
            // SAFETY: reads and writes `word` and reads `DEFAULT`, nothing else; everything is masked in `control`, so nothing
            // traps; the host's control word is back at the end.
            unsafe {
                asm!("ldmxcsr [{word}]", concat!(stringify!($name), " {0}, {source", $size, "}"), "stmxcsr [{word}]",
                    "ldmxcsr [{host}]", inout(xmm_reg) value, source = in(reg) source, word = in(reg) &mut word,
                    host = in(reg) &mxcsr::DEFAULT, options(nostack, preserves_flags));
            }
            (value, word)
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
