//! One iteration of each string instruction.

use super::{block, cursor};
use crate::alu::Word;
use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::memory::access::Through;
use crate::op::At;
use crate::state::Reg;

/// A string instruction.
pub trait Step {
    /// Whether it compares, so that its repetition also ends by ZF.
    const COMPARES: bool = false;
    /// What is asked for even if the count is zero.
    #[inline(always)]
    fn demand<W: Word>(_cpu: &mut Cpu) -> Result<(), Raised> {
        Ok(())
    }
    /// One iteration: everything but the count.
    fn step<W: Word>(cpu: &mut Cpu, at: At) -> Result<(), Raised>;
    /// Up to `count` iterations at once, if that is possible here; says how many it did.
    #[inline(always)]
    fn many<W: Word>(_cpu: &mut Cpu, _at: At, _count: u64) -> u64 {
        0
    }
}

/// MOVS.
pub struct Movs;
impl Step for Movs {
    #[inline(always)]
    fn step<W: Word>(cpu: &mut Cpu, at: At) -> Result<(), Raised> {
        let (from, through) = cursor::source(cpu, at, W::BYTES)?;
        let value: W = cpu.load(from, through)?;
        let to = cursor::target(cpu, at, W::BYTES, true)?;
        cpu.store(to, value, Through::Data)?;
        cursor::advance(cpu, at, Reg::RSI, W::BYTES, 1);
        cursor::advance(cpu, at, Reg::RDI, W::BYTES, 1);
        Ok(())
    }

    fn many<W: Word>(cpu: &mut Cpu, at: At, count: u64) -> u64 {
        block::copy::<W>(cpu, at, count)
    }
}

/// STOS.
pub struct Stos;
impl Step for Stos {
    #[inline(always)]
    fn step<W: Word>(cpu: &mut Cpu, at: At) -> Result<(), Raised> {
        let to = cursor::target(cpu, at, W::BYTES, true)?;
        let value: W = cpu.regs.get(Reg::RAX);
        cpu.store(to, value, Through::Data)?;
        cursor::advance(cpu, at, Reg::RDI, W::BYTES, 1);
        Ok(())
    }

    fn many<W: Word>(cpu: &mut Cpu, at: At, count: u64) -> u64 {
        block::fill::<W>(cpu, at, count)
    }
}

/// LODS.
pub struct Lods;
impl Step for Lods {
    #[inline(always)]
    fn step<W: Word>(cpu: &mut Cpu, at: At) -> Result<(), Raised> {
        let (from, through) = cursor::source(cpu, at, W::BYTES)?;
        let value: W = cpu.load(from, through)?;
        cpu.regs.set(Reg::RAX, value);
        cursor::advance(cpu, at, Reg::RSI, W::BYTES, 1);
        Ok(())
    }
}

/// CMPS.
pub struct Cmps;
impl Step for Cmps {
    const COMPARES: bool = true;
    #[inline(always)]
    fn step<W: Word>(cpu: &mut Cpu, at: At) -> Result<(), Raised> {
        // The target first: where both fault, that is the fault the CPU reports.
        let to = cursor::target(cpu, at, W::BYTES, false)?;
        let second: W = cpu.load(to, Through::Data)?;
        let (from, through) = cursor::source(cpu, at, W::BYTES)?;
        let first: W = cpu.load(from, through)?;
        cpu.flags = first.sub(second).1;
        cursor::advance(cpu, at, Reg::RSI, W::BYTES, 1);
        cursor::advance(cpu, at, Reg::RDI, W::BYTES, 1);
        Ok(())
    }
}

/// SCAS.
pub struct Scas;
impl Step for Scas {
    const COMPARES: bool = true;
    #[inline(always)]
    fn step<W: Word>(cpu: &mut Cpu, at: At) -> Result<(), Raised> {
        let to = cursor::target(cpu, at, W::BYTES, false)?;
        let second: W = cpu.load(to, Through::Data)?;
        let first: W = cpu.regs.get(Reg::RAX);
        cpu.flags = first.sub(second).1;
        cursor::advance(cpu, at, Reg::RDI, W::BYTES, 1);
        Ok(())
    }
}
