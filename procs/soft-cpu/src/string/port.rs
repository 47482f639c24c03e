//! INS and OUTS.
//!
//! The memory side is checked before the port is touched, so that no device sees an access whose data are then lost.

use super::cursor;
use super::step::Step;
use crate::alu::Word;
use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::memory::Outside;
use crate::memory::access::Through;
use crate::op::{At, Op, Shape};
use crate::state::{Reg, SegmentName};

/// INS.
pub struct Ins;
impl Step for Ins {
    fn demand<W: Word>(cpu: &mut Cpu) -> Result<(), Raised> {
        cpu.demand_port(cpu.regs.get(Reg::RDX), W::BYTES as u8)
    }

    fn step<W: Word>(cpu: &mut Cpu, at: At) -> Result<(), Raised> {
        let port = cpu.regs.get(Reg::RDX);
        let to = cursor::target(cpu, at, W::BYTES, true)?;
        prove_target(cpu, at, W::BYTES)?;
        let value = cpu.outside(Outside::PortRead { port, width: W::BYTES as u8 })?;
        cpu.store(to, W::truncate(value), Through::Data)?;
        cursor::advance(cpu, at, Reg::RDI, W::BYTES, 1);
        Ok(())
    }
}

/// That the byte at rDI in ES may be written.
fn prove_target(cpu: &mut Cpu, at: At, bytes: usize) -> Result<(), Raised> {
    let shape = Shape::new(0, SegmentName::Es as u8, at.shape.size());
    let op = Op { base: Reg::RDI, index: Reg::ZERO, displacement: 0, shape, ..*at };
    // SAFETY: the operation outlives its use as an operand, and nobody goes on from it.
    let there = unsafe { At::new(&op) };
    cpu.writable(there, bytes as u32)?;
    Ok(())
}

/// OUTS.
pub struct Outs;
impl Step for Outs {
    fn demand<W: Word>(cpu: &mut Cpu) -> Result<(), Raised> {
        cpu.demand_port(cpu.regs.get(Reg::RDX), W::BYTES as u8)
    }

    fn step<W: Word>(cpu: &mut Cpu, at: At) -> Result<(), Raised> {
        let port = cpu.regs.get(Reg::RDX);
        let (from, through) = cursor::source(cpu, at, W::BYTES)?;
        let value = cpu.load::<W>(from, through)?.zero_extend();
        cpu.outside(Outside::PortWrite { port, width: W::BYTES as u8, value })?;
        cursor::advance(cpu, at, Reg::RSI, W::BYTES, 1);
        Ok(())
    }
}
