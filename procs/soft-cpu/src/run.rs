//! The run loop: block after block, until something has to be looked at.

use std::sync::atomic::Ordering;

use crate::cpu::Cpu;
use crate::fault::{Raised, Stop};
use crate::op::{At, Next};

/// Blocks between two looks at the clock.
const SLICE: u32 = 2048;

impl Cpu {
    /// Executes the instruction at RIP and nothing else; events and timers are not looked at.
    pub fn step(&mut self) -> Stop {
        self.run_blocks(true)
    }

    /// Executes blocks until a handler stops, the exit word is set, or the slice is over. `alone`: one
    /// instruction.
    pub(crate) fn run_blocks(&mut self, alone: bool) -> Stop {
        self.stop = Stop::Lookup;
        self.is_alone = alone;
        let mut slice = SLICE;
        loop {
            let mut next = match self.block_at_rip(alone) {
                Ok(next) => next,
                Err(Raised) => return self.stop,
            };
            while next != Next::LOOKUP {
                // SAFETY: a `Next` leads to a live block: nothing is freed before the next look-up.
                let count = unsafe { (*next.block()).count };
                self.executed += u64::from(count);
                // SAFETY: as above.
                let at = unsafe { At::new(next.0) };
                next = at.enter(self);
                slice -= 1;
                if slice == 0 || alone || self.apic.mailbox.signals.load(Ordering::Relaxed) != 0 {
                    return self.stop;
                }
            }
            if self.stop != Stop::Lookup || slice == 0 {
                return self.stop;
            }
        }
    }
}
