//! DAA DAS AAA AAS AAM AAD on AL and AX.

use crate::alu::decimal;
use crate::cpu::Cpu;
use crate::fault::Exception;
use crate::op::{At, Next};
use crate::state::{Flags, Reg};
use crate::width::Width;

#[inline(always)]
fn adjust<W: Width>(cpu: &mut Cpu, at: At, rule: fn(W, Flags) -> (W, Flags)) -> Next {
    let (value, flags) = rule(cpu.regs.get(Reg::RAX), cpu.flags);
    cpu.regs.set(Reg::RAX, value);
    cpu.flags = flags;
    at.next(cpu)
}

/// DAA.
pub fn daa(cpu: &mut Cpu, at: At) -> Next {
    adjust(cpu, at, decimal::daa)
}

/// DAS.
pub fn das(cpu: &mut Cpu, at: At) -> Next {
    adjust(cpu, at, decimal::das)
}

/// AAA.
pub fn aaa(cpu: &mut Cpu, at: At) -> Next {
    adjust(cpu, at, decimal::aaa)
}

/// AAS.
pub fn aas(cpu: &mut Cpu, at: At) -> Next {
    adjust(cpu, at, decimal::aas)
}

/// AAM: a radix of zero is a divide error.
pub fn aam(cpu: &mut Cpu, at: At) -> Next {
    let Some((value, flags)) = decimal::aam(cpu.regs.get(Reg::RAX), at.imm as u8) else {
        return cpu.raise(at, Exception::DE);
    };
    cpu.regs.set(Reg::RAX, value);
    cpu.flags = flags;
    at.next(cpu)
}

/// AAD.
pub fn aad(cpu: &mut Cpu, at: At) -> Next {
    let (value, flags) = decimal::aad(cpu.regs.get(Reg::RAX), at.imm as u8);
    cpu.regs.set(Reg::RAX, value);
    cpu.flags = flags;
    at.next(cpu)
}
