//! One operation of the interpreter, executed from compiled code.
//!
//! What compiled code does not know, and every access that its TLB check refuses, is done by the
//! interpreter's own handler: there is one definition of what an instruction does when it is not simple.
//! The operation lies in an arena of its own, behind the address of the block that it belongs to and before
//! one that says that it went on.

use super::layout;
use crate::block::{Arena, Link, Slot};
use crate::cpu::Cpu;
use crate::op::{At, Next, Op};

/// What [`went_on`] answers: no operation's address.
const WENT_ON: Next = Next(std::ptr::without_provenance(1));

/// Answers of [`step`] that are no address of code.
pub(super) mod answer {
    /// Go on behind the operation.
    pub(in crate::jit) const ON: u64 = 0;
    /// Leave.
    pub(in crate::jit) const STOPPED: u64 = 1;
}

/// The handler behind a lone operation.
pub(super) fn went_on(_cpu: &mut Cpu, _at: At) -> Next {
    WENT_ON
}

/// Puts operations where compiled code can have them executed; `slots` begins with one for the block's
/// address.
pub(super) fn place(arena: &mut Arena, slots: &mut [Slot], rip: u64) -> *const Op {
    if let Some(first) = slots.first_mut() {
        *first = Slot { link: Link::to_address(rip) };
    }
    arena.put(slots).cast::<Op>().wrapping_add(1)
}

/// Executes the operation; what comes next: one of [`answer`], or the code to go on with. Registers and flags are in
/// the file.
pub(super) extern "sysv64" fn step(state: *mut u8, op: *const Op) -> u64 {
    // SAFETY: called by compiled code only, which `Cpu::run_compiled` has entered with this very pointer
    // made from its own exclusive reference, not used until compiled code comes back.
    let cpu = unsafe { &mut *layout::cpu_of(state) };
    // SAFETY: `place` put the address before the operation; the arena is emptied only while no compiled
    // code runs.
    let rip = unsafe { (*op.cast::<Link>().wrapping_sub(1)).address() };
    cpu.set_rip(rip);
    // SAFETY: as above; behind it lies `went_on`, or it ends its block.
    let next = unsafe { At::new(op) }.enter(cpu);
    if next == WENT_ON {
        cpu.look_around();
        if cpu.has_signals() {
            cpu.end_slice();
        }
        return answer::ON;
    }
    if let Some(code) = cpu.compiled_here() {
        cpu.look_around();
        return code;
    }
    if let Some(jit) = &mut cpu.blocks.jit {
        jit.next = next;
    }
    answer::STOPPED
}
