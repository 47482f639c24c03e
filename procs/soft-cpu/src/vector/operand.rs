//! Operands of vector instructions, and what all of them check first.

use super::{Xmm, halves, xmm};
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised};
use crate::op::{At, Next};
use crate::select::Draft;
use crate::state::{Reg, cr4};

/// Where an instruction's source comes from.
pub trait Source {
    /// The source, zero-extended to a register.
    fn fetch(cpu: &mut Cpu, at: At) -> Result<Xmm, Raised>;
}

/// XMM register `src`.
pub struct Register16;
impl Source for Register16 {
    #[inline(always)]
    fn fetch(cpu: &mut Cpu, at: At) -> Result<Xmm, Raised> {
        Ok(get(cpu, at.src))
    }
}

/// 16 bytes of memory at a multiple of 16: anything else is #GP.
pub struct Aligned;
impl Source for Aligned {
    #[inline(always)]
    fn fetch(cpu: &mut Cpu, at: At) -> Result<Xmm, Raised> {
        check_alignment(cpu, at, false)?;
        cpu.read_u128(at).map(from_bits)
    }
}

/// 16 bytes of memory anywhere.
pub struct Unaligned;
impl Source for Unaligned {
    #[inline(always)]
    fn fetch(cpu: &mut Cpu, at: At) -> Result<Xmm, Raised> {
        cpu.read_u128(at).map(from_bits)
    }
}

/// 8 bytes of memory.
pub struct Memory8;
impl Source for Memory8 {
    #[inline(always)]
    fn fetch(cpu: &mut Cpu, at: At) -> Result<Xmm, Raised> {
        Ok(xmm(cpu.read::<u64>(at)?, 0))
    }
}

/// 4 bytes of memory.
pub struct Memory4;
impl Source for Memory4 {
    #[inline(always)]
    fn fetch(cpu: &mut Cpu, at: At) -> Result<Xmm, Raised> {
        Ok(xmm(cpu.read::<u32>(at)?.into(), 0))
    }
}

/// 2 bytes of memory.
pub struct Memory2;
impl Source for Memory2 {
    #[inline(always)]
    fn fetch(cpu: &mut Cpu, at: At) -> Result<Xmm, Raised> {
        Ok(xmm(cpu.read::<u16>(at)?.into(), 0))
    }
}

/// The handler for the source that operand `index` is: `$handler<$types, Source>`.
macro_rules! by_source {
    ($draft:expr, $index:expr, $handler:path $(, $types:ty)*) => {{
        use $handler as f;
        use $crate::vector::operand::{Aligned, Memory2, Memory4, Memory8, Register16, xmm_register};
        if $draft.is_register($index) {
            $draft.op.src = xmm_register($draft, $index)?;
            Some(f::<$($types,)* Register16> as $crate::op::Handler)
        } else {
            match $draft.size($index) {
                2 => Some(f::<$($types,)* Memory2> as $crate::op::Handler),
                4 => Some(f::<$($types,)* Memory4>),
                8 => Some(f::<$($types,)* Memory8>),
                16 => Some(f::<$($types,)* Aligned>),
                _ => None,
            }
        }
    }};
}
pub(super) use by_source;

/// An XMM register's value as bits.
#[inline(always)]
pub fn bits(value: Xmm) -> u128 {
    let [low, high] = halves(value);
    u128::from(high) << 64 | u128::from(low)
}

/// The other way round.
#[inline(always)]
pub fn from_bits(bits: u128) -> Xmm {
    xmm(bits as u64, (bits >> 64) as u64)
}

/// Reads an XMM register; its number is in the `Reg`.
#[inline(always)]
pub fn get(cpu: &Cpu, reg: Reg) -> Xmm {
    from_bits(cpu.fx.xmm[usize::from(reg.0 & 15)])
}

/// Writes one.
#[inline(always)]
pub fn set(cpu: &mut Cpu, reg: Reg, value: Xmm) {
    cpu.fx.xmm[usize::from(reg.0 & 15)] = bits(value);
}

/// #GP unless the memory operand's address is a multiple of 16.
#[inline(always)]
pub fn check_alignment(cpu: &mut Cpu, at: At, write: bool) -> Result<(), Raised> {
    match cpu.address(at, 16, write) {
        Ok(linear) if linear & 15 == 0 => Ok(()),
        // Where it lies beyond its segment as well, that comes second.
        Err(raised) if cpu.unchecked_address(at) & 15 == 0 => Err(raised),
        _ => Err(cpu.fault(Exception::gp(0))),
    }
}

/// The number of the XMM register that operand `index` is.
pub fn xmm_register(draft: &Draft<'_>, index: u32) -> Option<Reg> {
    let register = draft.is_register(index).then(|| draft.instruction.op_register(index))?;
    register.is_xmm().then(|| Reg(register.number() as u8))
}

/// The number of the MMX register that operand `index` is.
pub fn mm_register(draft: &Draft<'_>, index: u32) -> Option<Reg> {
    let register = draft.is_register(index).then(|| draft.instruction.op_register(index))?;
    register.is_mm().then(|| Reg(register.number() as u8))
}

/// Whether any operand is an MMX register.
pub fn uses_mmx(draft: &Draft<'_>) -> bool {
    (0..draft.instruction.op_count().min(2)).any(|index| mm_register(draft, index).is_some())
}

/// What a handler that found an unmasked SIMD exception ends with.
#[cold]
pub fn raise_simd(cpu: &mut Cpu, at: At) -> Next {
    let is_handled = cpu.control.cr4 & cr4::OSXMMEXCPT != 0;
    cpu.raise(at, if is_handled { Exception::XM } else { Exception::UD })
}
