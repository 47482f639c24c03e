//! A debugger outside the guest: what it wants of this vCPU.
//!
//! Called by the run loop and the decoder; set through the engine's trait. The guest's own debug
//! registers, `int3` and single-step are elsewhere ([`crate::system`]) and go on beside it.
//!
//! ```text
//!  a breakpoint   the decoder ends blocks before its place in the page, and the block that begins there
//!                 begins with an operation that looks whether the linear address is meant
//!  a watch        every access takes the slow way, which looks; so each instruction runs alone
//!  a step         one instruction runs alone; interrupts wait
//! ```
//!
//! Where nothing is set, it costs nothing: a block without such a place is the block it always was.
//!
//! Law: whoever changes the wish drops all blocks. An instruction that waits for an answer from outside
//! has met its breakpoint before.

use bulkhead_hypervisor::{DebugStop, GuestDebug};

use crate::cpu::Cpu;
use crate::fault::{Raised, Stop};
use crate::memory::ram::PAGE;
use crate::op::{At, Next};

/// A vCPU's debugger.
#[derive(Debug, Default)]
pub(crate) struct Debugger {
    wish: GuestDebug,
    /// A watch that the instruction under way has met.
    pub(crate) met: Option<u64>,
}

impl Debugger {
    /// One instruction at a time.
    pub(crate) fn steps(&self) -> bool {
        self.wish.steps
    }

    /// Accesses are watched.
    pub(crate) fn watches(&self) -> bool {
        !self.wish.data.is_empty()
    }

    /// There are breakpoints: blocks have to be those that the decoder makes now.
    pub(crate) fn has_breakpoints(&self) -> bool {
        !self.wish.code.is_empty()
    }

    /// Whether a breakpoint lies at this offset of some page.
    pub(crate) fn may_break(&self, page_offset: u64) -> bool {
        self.wish.code.iter().any(|address| address % PAGE == page_offset % PAGE)
    }

    /// Whether a breakpoint is at this linear address.
    pub(crate) fn breaks_at(&self, linear: u64) -> bool {
        self.wish.code.contains(&linear)
    }

    /// Notes which watch an access meets.
    pub(crate) fn watch(&mut self, linear: u64, size: usize, write: bool) {
        let met = self.wish.data.iter().find(|watch| watch.meets(linear, size as u64, write));
        self.met = self.met.or(met.map(|watch| watch.address));
    }

    /// Why to stop behind an instruction that is done.
    pub(crate) fn after_instruction(&mut self) -> Option<DebugStop> {
        let step = self.wish.steps.then_some(DebugStop::Step);
        self.met.take().map(DebugStop::Data).or(step)
    }
}

impl Cpu {
    /// Sets what to stop for. Only while it does not run.
    pub(crate) fn set_guest_debug(&mut self, wish: &GuestDebug) {
        if self.debugger.wish.code != wish.code {
            self.blocks.forget_all();
        }
        self.debugger = Debugger { wish: wish.clone(), met: None };
        self.refresh();
    }
}

/// The operation before an instruction at a place where a breakpoint may be.
pub(crate) fn look(cpu: &mut Cpu, at: At) -> Next {
    let linear = cpu.code_linear();
    if cpu.debugger.breaks_at(linear) && !cpu.replay.is_pending() {
        cpu.stop = Stop::Breakpoint;
        return cpu.leave(at, Raised);
    }
    at.next(cpu)
}
