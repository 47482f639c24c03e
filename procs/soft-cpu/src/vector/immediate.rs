//! Instructions of the form `op xmm, xmm, imm8`.
//!
//! The immediate is part of the encoding, so each value is a function of its own, in a table of 256; the floating-point ones
//! run under the guest's MXCSR as those of `float` do. The shifts of whole registers (PSLLDQ, PSRLDQ) are two lines of
//! arithmetic and need no table; shifts of lanes by an immediate are those of `integer` with the count as source.

use super::{Xmm, halves, mxcsr, xmm};
use core::arch::asm;

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
        /// Runs `$mac!(Name Name …)` with every integer instruction of this file.
        #[macro_export]
        #[doc(hidden)]
        macro_rules! for_each_immediate { ($mac:ident) => { $mac! { $($name)* } } }
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
                        let mut word = control;
                        // SAFETY: reads and writes `word` and reads `DEFAULT`, nothing else; everything is masked in `control`,
                        // so nothing traps; the host's control word is back at the end.
                        unsafe {
                            asm!("ldmxcsr [{word}]", concat!(stringify!($name), " {0}, {1}, {imm}"), "stmxcsr [{word}]",
                                "ldmxcsr [{host}]", inout(xmm_reg) value, in(xmm_reg) source, word = in(reg) &mut word,
                                host = in(reg) &mxcsr::DEFAULT, imm = const (HIGH * 16 + LOW) & $mask,
                                options(nostack, preserves_flags));
                        }
                        (value, word)
                    }
                    table!(run)
                };
            }
        )*
        /// Runs `$mac!(Name Name …)` with every floating-point instruction of this file.
        #[macro_export]
        #[doc(hidden)]
        macro_rules! for_each_rounded { ($mac:ident) => { $mac! { $($name)* } } }
    };
}

// The mask is what the CPU looks at: comparisons have eight predicates without VEX, roundings four bits.
rounded! {
    Cmpps 7 Cmppd 7 Cmpss 7 Cmpsd 7 Roundps 15 Roundpd 15 Roundss 15 Roundsd 15 Dpps 255 Dppd 255
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
