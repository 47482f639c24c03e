//! rSI, rDI and rCX of a string instruction, as wide as its address size.

use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::memory::access::Through;
use crate::op::{AddressSize, At};
use crate::state::{Reg, SegmentName};

/// The value of an address register.
#[inline(always)]
pub fn value(cpu: &Cpu, at: At, register: Reg) -> u64 {
    let whole: u64 = cpu.regs.get(register);
    match at.shape.size() {
        AddressSize::Bits64 => whole,
        AddressSize::Bits32 => whole & 0xffff_ffff,
        AddressSize::Bits16 => whole & 0xffff,
    }
}

/// Replaces it; 32 bits clear the upper half.
#[inline(always)]
pub fn set(cpu: &mut Cpu, at: At, register: Reg, value: u64) {
    match at.shape.size() {
        AddressSize::Bits64 => cpu.regs.set::<u64>(register, value),
        AddressSize::Bits32 => cpu.regs.set::<u32>(register, value as u32),
        AddressSize::Bits16 => cpu.regs.set::<u16>(register, value as u16),
    }
}

/// Moves it on by `count` elements of `bytes`, in the direction that DF says.
#[inline(always)]
pub fn advance(cpu: &mut Cpu, at: At, register: Reg, bytes: usize, count: u64) {
    let distance = (bytes as u64).wrapping_mul(count);
    let distance = if cpu.goes_down() { distance.wrapping_neg() } else { distance };
    set(cpu, at, register, value(cpu, at, register).wrapping_add(distance));
}

/// Linear address of the source, and what it goes through: rSI in DS, or in the segment of a prefix.
#[inline(always)]
pub fn source(cpu: &mut Cpu, at: At, bytes: usize) -> Result<(u64, Through), Raised> {
    let through = if at.shape.is_stack() { Through::Stack } else { Through::Data };
    let offset = value(cpu, at, Reg::RSI);
    Ok((cpu.segment_address(at.shape.segment(), offset, bytes as u32, false)?, through))
}

/// Linear address of the target: rDI in ES, whatever the prefixes.
#[inline(always)]
pub fn target(cpu: &mut Cpu, at: At, bytes: usize, write: bool) -> Result<u64, Raised> {
    let offset = value(cpu, at, Reg::RDI);
    cpu.segment_address(SegmentName::Es as u8, offset, bytes as u32, write)
}
