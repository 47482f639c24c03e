//! SETcc and CMOVcc.
//!
//! CMOVcc reads its source whatever the condition, so memory must be there; and its 32-bit form clears the upper half of the
//! register also where it does not move (Intel SDM volume 2, CMOVcc).

use crate::alu::Wide;
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Next};

/// `setcc r8`.
pub fn set_register<const CC: u8>(cpu: &mut Cpu, at: At) -> Next {
    let value = u8::from(cpu.flags.holds::<CC>());
    cpu.regs.set(at.dst, value);
    at.next(cpu)
}

/// `setcc m8`.
pub fn set_memory<const CC: u8>(cpu: &mut Cpu, at: At) -> Next {
    let value = u8::from(cpu.flags.holds::<CC>());
    attempt!(cpu, at, cpu.write(at, value));
    at.next(cpu)
}

#[inline(always)]
fn choose<W: Wide, const CC: u8>(cpu: &mut Cpu, at: At, source: W) -> Next {
    let value = if cpu.flags.holds::<CC>() { source } else { cpu.regs.get(at.dst) };
    cpu.regs.set(at.dst, value);
    at.next(cpu)
}

/// `cmovcc r, r`.
pub fn move_register<W: Wide, const CC: u8>(cpu: &mut Cpu, at: At) -> Next {
    let source = cpu.regs.get(at.src);
    choose::<W, CC>(cpu, at, source)
}

/// `cmovcc r, m`.
pub fn move_memory<W: Wide, const CC: u8>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, cpu.read(at));
    choose::<W, CC>(cpu, at, source)
}
