//! What every SSE and MMX instruction computes: the host's own instruction on the host's vector registers.
//!
//! Each opcode is a type of no size, named as `iced` names its mnemonic, with one function that runs it. The handlers are
//! generic over these types, so decoding picks a handler and execution picks nothing. Operands arrive as values: registers
//! and memory, alignment and faults belong to the handlers.
//!
//! Laws: floating-point instructions run under the guest's MXCSR with all exceptions masked, and what they raised is judged
//! afterwards (`mxcsr`), so the host never traps for the guest. MMX instructions leave the host's x87 state empty. Absent on
//! purpose: AVX (CPUID hides it) and 3DNow!.

/// Passes the names of the instructions that MMX and XMM registers have in common to `$instances`, and
/// `$more` behind them.
macro_rules! with_mmx {
    ($instances:ident $($more:ident)*) => {
        $instances! {
            Paddb Paddw Paddd Paddq Psubb Psubw Psubd Psubq Paddsb Paddsw Paddusb Paddusw Psubsb Psubsw Psubusb
            Psubusw Pmullw Pmulhw Pmulhuw Pmuludq Pmaddwd Pand Pandn Por Pxor Pcmpeqb Pcmpeqw Pcmpeqd Pcmpgtb Pcmpgtw
            Pcmpgtd Psllw Pslld Psllq Psrlw Psrld Psrlq Psraw Psrad Packsswb Packssdw Packuswb Punpcklbw Punpcklwd
            Punpckldq Punpckhbw Punpckhwd Punpckhdq Pavgb Pavgw Pmaxub Pmaxsw Pminub Pminsw Psadbw Pshufb Phaddw
            Phaddd Phaddsw Phsubw Phsubd Phsubsw Pmaddubsw Pmulhrsw Psignb Psignw Psignd Pabsb Pabsw Pabsd
            $($more)*
        }
    };
}

pub mod compare;
mod control;
pub mod convert;
pub mod float;
pub mod immediate;
pub mod integer;
mod lane;
pub mod mmx;
mod mmx_convert;
mod mmx_move;
mod moves;
pub mod mxcsr;
mod operand;
mod select;

pub use select::select;

/// The contents of an XMM register.
pub use core::arch::x86_64::__m128i as Xmm;

/// The register with `low` and `high` in its halves.
#[inline(always)]
pub fn xmm(low: u64, high: u64) -> Xmm {
    // SAFETY: both are sixteen bytes without padding or invalid values.
    unsafe { core::mem::transmute([low, high]) }
}

/// The two halves of a register: low, high.
#[inline(always)]
pub fn halves(value: Xmm) -> [u64; 2] {
    // SAFETY: both are sixteen bytes without padding or invalid values.
    unsafe { core::mem::transmute(value) }
}
