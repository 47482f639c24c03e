//! Which instructions need the x87, MMX or SSE state to be there.

use iced_x86::{CpuidFeature, Instruction, Mnemonic as M, Register};

/// The state that an instruction works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coprocessor {
    /// x87, and instructions that save all of it.
    X87,
    /// fwait.
    Wait,
    /// The registers MM0–MM7.
    Mmx,
    /// The registers XMM0–XMM15 and MXCSR.
    Sse,
}

impl Coprocessor {
    /// None for instructions that only work on general registers, whatever extension brought them.
    pub(crate) fn of(instruction: &Instruction) -> Option<Self> {
        match instruction.mnemonic() {
            M::Wait => return Some(Self::Wait),
            M::Fxsave | M::Fxrstor | M::Fxsave64 | M::Fxrstor64 => return Some(Self::X87),
            M::Ldmxcsr | M::Stmxcsr => return Some(Self::Sse),
            // From memory to a general register: no operand tells.
            M::Cvtss2si | M::Cvtsd2si | M::Cvttss2si | M::Cvttsd2si => return Some(Self::Sse),
            M::Emms => return Some(Self::Mmx),
            M::Fnop => return Some(Self::X87),
            _ => {}
        }
        let registers = (0..instruction.op_count()).map(|index| instruction.op_register(index));
        let mut mmx = false;
        for register in registers.filter(|register| *register != Register::None) {
            if register.is_xmm() {
                return Some(Self::Sse);
            }
            mmx |= register.is_mm();
        }
        if mmx {
            return Some(Self::Mmx);
        }
        let is_x87 = |feature: &CpuidFeature| {
            matches!(feature, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387)
        };
        instruction.cpuid_features().iter().any(is_x87).then_some(Self::X87)
    }
}
