//! MOVD, MOVQ, PINSRx, PEXTRx, EXTRACTPS: between a lane of an XMM register and a general register or memory. And the masked
//! stores of single bytes.

use super::operand::{self, xmm_register};
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::memory::access::Through;
use crate::memory::ram::PAGE;
use crate::op::{At, Handler, Next, Op, Shape};
use crate::select::{Draft, segment};
use crate::state::{Reg, SegmentName};
use crate::width::Width;
use iced_x86::{Mnemonic as M, OpKind};

/// The handler of an instruction of this file.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    match draft.instruction.mnemonic() {
        M::Movd | M::Movq => whole(draft),
        M::Pinsrb => insert::<u8>(draft),
        M::Pinsrw => insert::<u16>(draft),
        M::Pinsrd => insert::<u32>(draft),
        M::Pinsrq => insert::<u64>(draft),
        M::Pextrb => extract::<u8>(draft),
        M::Pextrw => extract::<u16>(draft),
        M::Pextrd | M::Extractps => extract::<u32>(draft),
        M::Pextrq => extract::<u64>(draft),
        _ => None,
    }
}

/// MOVD and MOVQ with a general register or memory. From memory they load like MOVSS and MOVSD, and so clear the rest.
fn whole(draft: &mut Draft<'_>) -> Option<Handler> {
    if let Some(dst) = xmm_register(draft, 0) {
        draft.op.dst = dst;
        let is_wide = draft.size(1) == 8;
        let Some(src) = draft.register(1) else {
            return Some(if is_wide { load::<u64> } else { load::<u32> });
        };
        draft.op.src = src;
        return Some(if is_wide { from_register::<u64> } else { from_register::<u32> });
    }
    draft.op.imm = 0;
    let is_wide = draft.size(0) == 8;
    draft.op.src = xmm_register(draft, 1)?;
    let Some(dst) = draft.register(0) else {
        return Some(if is_wide { extract_memory::<u64> } else { extract_memory::<u32> });
    };
    draft.op.dst = dst;
    Some(if is_wide { extract_register::<u64> } else { extract_register::<u32> })
}

/// The number of a lane of width `W`, as a shift.
fn shift<W: Width>(immediate: u64) -> u64 {
    let lanes = 16 / W::BYTES as u64;
    (immediate & (lanes - 1)) * u64::from(W::BITS)
}

fn insert<W: Width>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = xmm_register(draft, 0)?;
    draft.op.imm = shift::<W>(draft.immediate(2)?);
    let Some(src) = draft.register(1) else { return Some(insert_memory::<W>) };
    draft.op.src = src;
    Some(insert_register::<W>)
}

fn extract<W: Width>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.src = xmm_register(draft, 1)?;
    draft.op.imm = shift::<W>(draft.immediate(2)?);
    let Some(dst) = draft.register(0) else { return Some(extract_memory::<W>) };
    draft.op.dst = dst;
    Some(extract_register::<W>)
}

fn from_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = cpu.regs.get(at.src);
    operand::set(cpu, at.dst, operand::from_bits(value.zero_extend().into()));
    at.next(cpu)
}

fn load<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = attempt!(cpu, at, cpu.read(at));
    operand::set(cpu, at.dst, operand::from_bits(value.zero_extend().into()));
    at.next(cpu)
}

#[inline(always)]
fn put<W: Width>(cpu: &mut Cpu, at: At, value: W) -> Next {
    let lane = u128::from(W::truncate(u64::MAX).zero_extend()) << at.imm;
    let rest = operand::bits(operand::get(cpu, at.dst)) & !lane;
    let value = u128::from(value.zero_extend()) << at.imm;
    operand::set(cpu, at.dst, operand::from_bits(rest | value));
    at.next(cpu)
}

fn insert_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = cpu.regs.get(at.src);
    put(cpu, at, value)
}

fn insert_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = attempt!(cpu, at, cpu.read(at));
    put(cpu, at, value)
}

#[inline(always)]
fn take<W: Width>(cpu: &Cpu, at: At) -> W {
    W::truncate((operand::bits(operand::get(cpu, at.src)) >> at.imm) as u64)
}

/// A lane always becomes the whole register.
fn extract_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value = take::<W>(cpu, at).zero_extend();
    cpu.regs.set::<u64>(at.dst, value);
    at.next(cpu)
}

fn extract_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value = take::<W>(cpu, at);
    attempt!(cpu, at, cpu.write(at, value));
    at.next(cpu)
}

/// Makes the memory operand of MASKMOVDQU and MASKMOVQ: rDI in DS, or in the segment of a prefix.
pub fn masked_store_target(draft: &mut Draft<'_>) {
    use crate::op::AddressSize;
    let size = match draft.instruction.op_kind(0) {
        OpKind::MemorySegDI => AddressSize::Bits16,
        OpKind::MemorySegEDI => AddressSize::Bits32,
        _ => AddressSize::Bits64,
    };
    let segment = segment(draft.instruction.memory_segment()).unwrap_or(SegmentName::Ds);
    draft.op.shape = Shape::new(0, segment as u8, size);
    draft.op.base = Reg::RDI;
    draft.op.index = Reg::ZERO;
    draft.op.displacement = 0;
}

/// Writes the bytes of `value` whose mask has its top bit set, each by itself: the others are somebody else's. All pages of the
/// operand must be writable, also where the mask is empty (which is each CPU's own choice; this is the host's).
pub fn store_masked(cpu: &mut Cpu, at: At, value: &[u8], mask: &[u8]) -> Result<(), Raised> {
    let linear = cpu.address(at, value.len() as u32, true)?;
    let through = if at.shape.is_stack() { Through::Stack } else { Through::Data };
    let in_first = (PAGE - linear % PAGE).min(value.len() as u64) as usize;
    prove_byte(cpu, at, 0)?;
    prove_byte(cpu, at, in_first.min(value.len() - 1))?;
    for (index, (byte, mask)) in (0..).zip(value.iter().zip(mask)) {
        if mask & 0x80 != 0 {
            cpu.store(linear.wrapping_add(index), *byte, through)?;
        }
    }
    Ok(())
}

/// That byte `index` of the operand may be written.
fn prove_byte(cpu: &mut Cpu, at: At, index: usize) -> Result<(), Raised> {
    let op = Op { displacement: at.displacement.wrapping_add(index as u64), ..*at };
    // SAFETY: the operation outlives its use as an operand, and nobody goes on from it.
    let there = unsafe { At::new(&op) };
    cpu.writable(there, 1)?;
    Ok(())
}
