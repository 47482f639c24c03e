//! Instructions that combine two XMM registers into the first and look at nothing else.
//!
//! Integer arithmetic, logic, shuffles without an immediate, sign extensions, and AES. A narrower memory operand arrives
//! zero-extended in `source`; instructions that only write `target` get its old value all the same.

use super::Xmm;
use core::arch::asm;

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
        /// Runs `$mac!(Name Name …)` with every instruction of this file.
        #[macro_export]
        #[doc(hidden)]
        macro_rules! for_each_combine { ($mac:ident) => { $mac! { $($name)* } } }
    };
}

combine! {
    Paddb Paddw Paddd Paddq Psubb Psubw Psubd Psubq Paddsb Paddsw Paddusb Paddusw Psubsb Psubsw Psubusb Psubusw
    Pmullw Pmulhw Pmulhuw Pmuludq Pmaddwd Pand Pandn Por Pxor Pcmpeqb Pcmpeqw Pcmpeqd Pcmpgtb Pcmpgtw Pcmpgtd
    Psllw Pslld Psllq Psrlw Psrld Psrlq Psraw Psrad Packsswb Packssdw Packuswb Punpcklbw Punpcklwd Punpckldq
    Punpcklqdq Punpckhbw Punpckhwd Punpckhdq Punpckhqdq Pavgb Pavgw Pmaxub Pmaxsw Pminub Pminsw Psadbw
    Andps Andnps Orps Xorps Andpd Andnpd Orpd Xorpd Unpcklps Unpckhps Unpcklpd Unpckhpd
    Movddup Movshdup Movsldup
    Pshufb Phaddw Phaddd Phaddsw Phsubw Phsubd Phsubsw Pmaddubsw Pmulhrsw Psignb Psignw Psignd Pabsb Pabsw Pabsd
    Pmuldq Pmulld Pcmpeqq Pcmpgtq Packusdw Pminsb Pmaxsb Pminuw Pmaxuw Pminsd Pmaxsd Pminud Pmaxud Phminposuw
    Pmovsxbw Pmovsxbd Pmovsxbq Pmovsxwd Pmovsxwq Pmovsxdq Pmovzxbw Pmovzxbd Pmovzxbq Pmovzxwd Pmovzxwq Pmovzxdq
    Aesenc Aesenclast Aesdec Aesdeclast Aesimc
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
