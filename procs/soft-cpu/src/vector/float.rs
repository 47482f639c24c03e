//! Floating-point instructions of the form `op xmm, xmm`: arithmetic and conversions between vectors.
//!
//! Run under a control word the caller gives (`mxcsr::masked`); they return what they raised. One assembly block loads the
//! word, runs, reads the flags and restores the host's word, so no code of ours ever runs under the guest's rounding.

use super::{Xmm, mxcsr};
use core::arch::asm;

/// A floating-point instruction with two vector operands.
pub trait Float {
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
                fn run(target: Xmm, source: Xmm, control: u32) -> (Xmm, u32) {
                    let mut value = target;
                    let mut word = control;
                    // SAFETY: reads and writes `word` and reads `DEFAULT`, nothing else; everything is masked in `control`, so
                    // nothing traps; the host's control word is back at the end.
                    unsafe {
                        asm!("ldmxcsr [{word}]", concat!(stringify!($name), " {0}, {1}"), "stmxcsr [{word}]", "ldmxcsr [{host}]",
                            inout(xmm_reg) value, in(xmm_reg) source, word = in(reg) &mut word, host = in(reg) &mxcsr::DEFAULT,
                            options(nostack, preserves_flags));
                    }
                    (value, word)
                }
            }
        )*
        /// Runs `$mac!(Name Name …)` with every instruction of this file.
        #[macro_export]
        #[doc(hidden)]
        macro_rules! for_each_float { ($mac:ident) => { $mac! { $($name)* } } }
    };
}

float! {
    Addps Addpd Addss Addsd Subps Subpd Subss Subsd Mulps Mulpd Mulss Mulsd Divps Divpd Divss Divsd
    Minps Minpd Minss Minsd Maxps Maxpd Maxss Maxsd Sqrtps Sqrtpd Sqrtss Sqrtsd Rcpps Rcpss Rsqrtps Rsqrtss
    Addsubps Addsubpd Haddps Haddpd Hsubps Hsubpd
    Cvtdq2ps Cvtps2dq Cvttps2dq Cvtdq2pd Cvtpd2dq Cvttpd2dq Cvtps2pd Cvtpd2ps Cvtss2sd Cvtsd2ss
}
