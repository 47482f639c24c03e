//! in and out: always an exit (Intel SDM volume 1, chapter 19). ins and outs are the string family's.

use bulkhead_hypervisor::IoAddress;
use iced_x86::{Mnemonic as M, OpKind, Register};

use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised};
use crate::memory::Outside;
use crate::memory::access::Through;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use crate::state::{Reg, rflags};

/// `imm`: the port, or `src`: DX; `dst.0`: the width in bytes.
pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    let (is_in, port, data) = match draft.instruction.mnemonic() {
        M::In => (true, 1, 0),
        M::Out => (false, 0, 1),
        _ => return None,
    };
    draft.op.dst = Reg(match draft.instruction.op_register(data) {
        Register::AL => 1,
        Register::AX => 2,
        _ => 4,
    });
    let by_register = draft.instruction.op_kind(port) == OpKind::Register;
    draft.op.src = if by_register { Reg::RDX } else { Reg::ZERO };
    draft.op.imm = if by_register { 0 } else { draft.immediate(port)? & 0xff };
    Some(if is_in { port_in } else { port_out })
}

impl Cpu {
    /// Whether the level, or the task's map, lets this code use `width` ports from `port`.
    pub fn demand_port(&mut self, port: u16, width: u8) -> Result<(), Raised> {
        let level = (self.system_flags & rflags::IOPL) >> 12;
        if !self.mode.is_protected() || u64::from(self.cpl) <= level {
            return Ok(());
        }
        let refused = Exception::gp(0);
        if !matches!(self.task.kind, 9 | 11) || self.task.limit < 0x67 {
            return Err(self.fault(refused));
        }
        let map: u16 = self.load(self.task.base.wrapping_add(0x66), Through::System)?;
        let byte = u32::from(map) + u32::from(port) / 8;
        if byte + 1 > self.task.limit {
            return Err(self.fault(refused));
        }
        let bits: u16 = self.load(self.task.base.wrapping_add(byte.into()), Through::System)?;
        let mask = ((1u16 << width) - 1) << (port % 8);
        if bits & mask != 0 {
            return Err(self.fault(refused));
        }
        Ok(())
    }
}

fn port(cpu: &Cpu, at: At) -> u16 {
    cpu.regs.get::<u16>(at.src) | at.imm as u16
}

fn port_in(cpu: &mut Cpu, at: At) -> Next {
    let (port, width) = (port(cpu, at), at.dst.0);
    attempt!(cpu, at, cpu.demand_port(port, width));
    let value = attempt!(cpu, at, cpu.outside(Outside::PortRead { port, width }));
    match width {
        1 => cpu.regs.set(Reg::RAX, value as u8),
        2 => cpu.regs.set(Reg::RAX, value as u16),
        _ => cpu.regs.set(Reg::RAX, value as u32),
    }
    at.next(cpu)
}

fn port_out(cpu: &mut Cpu, at: At) -> Next {
    let (port, width) = (port(cpu, at), at.dst.0);
    attempt!(cpu, at, cpu.demand_port(port, width));
    let value: u64 = cpu.regs.get(Reg::RAX);
    let value = value & (u64::MAX >> (64 - 8 * u32::from(width)));
    if !cpu.doorbells.ring(IoAddress::Pio(port), width, value) {
        attempt!(cpu, at, cpu.outside(Outside::PortWrite { port, width, value }));
    }
    at.next(cpu)
}
