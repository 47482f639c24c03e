//! Single-step and instruction breakpoints (Intel SDM volume 3, 18.3).

use crate::cpu::Cpu;
use crate::event::TripleFault;
use crate::fault::{Exception, vector};
use crate::state::rflags;

/// DR6: single-step.
const STEP: u64 = 1 << 14;

impl Cpu {
    /// Whether an instruction breakpoint is set.
    pub(crate) fn breaks_on_code(&self) -> bool {
        let control = self.debug.control;
        control & 0xff != 0
            && (0..4).any(|number| {
                control & 3 << (2 * number) != 0 && control >> (16 + 4 * number) & 3 == 0
            })
    }

    /// Whether the instruction at RIP has a breakpoint; notes which.
    pub(crate) fn code_breakpoint(&mut self) -> bool {
        if self.system_flags & rflags::RF != 0 {
            return false;
        }
        let linear = self.code_linear();
        let control = self.debug.control;
        let hits = (0..4).filter(|number| {
            control & 3 << (2 * number) != 0
                && control >> (16 + 4 * number) & 3 == 0
                && self.debug.addresses[*number as usize] == linear
        });
        let met = hits.fold(0, |met, number| met | 1u64 << number);
        self.debug.status |= met;
        met != 0
    }

    /// The trap behind an instruction that was stepped over, or touched watched data.
    pub(crate) fn trap_debug(&mut self, stepped: bool) -> Result<(), TripleFault> {
        self.debug.status |=
            std::mem::take(&mut self.debug_pending) | if stepped { STEP } else { 0 };
        self.deliver_exception(Exception::plain(vector::DB))
    }
}
