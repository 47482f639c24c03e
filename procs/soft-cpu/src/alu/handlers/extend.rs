//! CBW CWDE CDQE, CWD CDQ CQO: sign extension of the accumulator.

use crate::cpu::Cpu;
use crate::op::{At, Next};
use crate::state::Reg;
use crate::width::Width;

/// CBW, CWDE, CDQE: the accumulator of width `N` into width `W`.
pub fn in_place<N: Width, W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value = cpu.regs.get::<N>(Reg::RAX).sign_extend();
    cpu.regs.set(Reg::RAX, W::truncate(value));
    at.next(cpu)
}

/// CWD, CDQ, CQO: rDX becomes the sign of rAX.
pub fn into_high<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let sign = (cpu.regs.get::<W>(Reg::RAX).sign_extend() as i64) >> 63;
    cpu.regs.set(Reg::RDX, W::truncate(sign as u64));
    at.next(cpu)
}
