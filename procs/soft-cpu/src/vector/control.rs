//! LDMXCSR, STMXCSR, MOVNTI: what came with SSE and touches no vector register.

use super::mxcsr;
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::Exception;
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};
use crate::width::Width;
use iced_x86::Mnemonic as M;

/// The handler of an instruction of this file.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    match draft.instruction.mnemonic() {
        M::Ldmxcsr => {
            draft.ending = Ending::Block;
            Some(ldmxcsr)
        }
        M::Stmxcsr => Some(stmxcsr),
        M::Movnti => {
            draft.op.src = draft.register(1)?;
            Some(if draft.size(1) == 8 { movnti::<u64> } else { movnti::<u32> })
        }
        _ => None,
    }
}

/// Any reserved bit is #GP. Ends the block: compiled code relies on the masks staying as they are within one.
fn ldmxcsr(cpu: &mut Cpu, at: At) -> Next {
    let word = attempt!(cpu, at, cpu.read::<u32>(at));
    if word & !mxcsr::WRITABLE != 0 {
        return cpu.raise(at, Exception::gp(0));
    }
    cpu.fx.mxcsr = word;
    at.end(cpu)
}

fn stmxcsr(cpu: &mut Cpu, at: At) -> Next {
    let word = cpu.fx.mxcsr;
    attempt!(cpu, at, cpu.write(at, word));
    at.next(cpu)
}

/// A non-temporal store is a store.
fn movnti<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = cpu.regs.get(at.src);
    attempt!(cpu, at, cpu.write(at, value));
    at.next(cpu)
}
