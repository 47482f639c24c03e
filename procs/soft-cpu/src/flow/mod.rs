//! Instructions that choose what comes next.
//!
//! Near jumps, calls and returns here; what changes the code segment or the privilege level in `far` and
//! in `event`.

mod coprocessor;
mod far;
mod fast;
mod near;

use iced_x86::Mnemonic as M;

pub(crate) use coprocessor::Coprocessor;
pub(crate) use near::{branch, fusable, jump_handler};

use crate::cpu::Cpu;
use crate::fault::Exception;
use crate::op::{At, Handler, Next};
use crate::select::Draft;

/// Names the handler of a control transfer.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    match draft.instruction.mnemonic() {
        M::Jmp => near::jump(draft).or_else(|| far::jump(draft)),
        M::Call => near::call(draft).or_else(|| far::jump(draft)),
        M::Ret => near::ret(draft),
        M::Retf => far::ret(draft),
        M::Iret | M::Iretd | M::Iretq => far::interrupt_return(draft),
        M::Int | M::Int3 | M::Int1 | M::Into => far::interrupt(draft),
        M::Bound => far::bound(draft),
        M::Syscall | M::Sysret | M::Sysretq | M::Sysenter | M::Sysexit | M::Sysexitq => {
            fast::select(draft)
        }
        M::Loop | M::Loope | M::Loopne | M::Jcxz | M::Jecxz | M::Jrcxz => near::count(draft),
        _ if draft.instruction.is_jcc_short_or_near() => near::conditional(draft),
        _ => None,
    }
}

/// What is no instruction, or none of ours.
pub(crate) fn undefined(cpu: &mut Cpu, at: At) -> Next {
    cpu.raise(at, Exception::UD)
}

/// x87, MMX or SSE while their state is somebody else's.
pub(crate) fn not_available(cpu: &mut Cpu, at: At) -> Next {
    cpu.raise(at, Exception::NM)
}
