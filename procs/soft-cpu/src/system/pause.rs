//! `pause`: the guest spins until another vCPU has done something, which it can only do if it has a host
//! processor.
//!
//! ```text
//!  PATIENCE pauses ─► yield ─► PATIENCE pauses ─► yield … ─► soon after YIELDS of them: sleep a little
//! ```
//!
//! A wait that ends soon costs nothing but the pauses. Behind more vCPUs than host processors stands
//! a lock's holder that does not run: yielding gives it our place, unless the scheduler thinks that it
//! had its share; sleeping does whatever the scheduler thinks. Any signal to the vCPU ends the sleep.

use std::time::Duration;

use iced_x86::Mnemonic as M;

use crate::cpu::Cpu;
use crate::fault::Stop;
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};

/// Pauses before the others are given way: some microseconds.
const PATIENCE: u8 = 64;

/// Times in a row that way is given by yielding; then by sleeping.
const YIELDS: u32 = 16;

/// What comes after more than this is no longer the same wait.
const SAME_WAIT: Duration = Duration::from_micros(200);

/// How long to sleep: the host's timers add as much again.
const NAP: Duration = Duration::from_micros(50);

/// How a vCPU has waited lately.
#[derive(Debug, Default)]
pub(crate) struct Spinning {
    pauses: u8,
    yields: u32,
    /// When way was last given, by the machine's clock.
    last: u64,
}

pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    // Not the end of the block: mostly it goes on.
    (draft.instruction.mnemonic() == M::Pause).then(|| {
        draft.ending = Ending::Open;
        pause as Handler
    })
}

fn pause(cpu: &mut Cpu, at: At) -> Next {
    std::hint::spin_loop();
    cpu.spinning.pauses += 1;
    if cpu.spinning.pauses < PATIENCE {
        return at.next(cpu);
    }
    cpu.spinning.pauses = 0;
    cpu.stop = Stop::Spin;
    at.end(cpu)
}

impl Cpu {
    /// Lets others have this vCPU's host processor for a while. Only between blocks.
    pub(crate) fn give_way(&mut self) {
        if self.apic.others().is_empty() {
            return;
        }
        let now = self.clock.now();
        let since = self.clock.duration(now.saturating_sub(self.spinning.last));
        self.spinning.yields = if since < SAME_WAIT { self.spinning.yields + 1 } else { 0 };
        self.go_outside();
        if self.spinning.yields < YIELDS {
            std::thread::yield_now();
        } else {
            self.apic.mailbox.clone().sleep(Some(NAP));
        }
        self.go_inside();
        self.spinning.last = self.clock.now();
    }
}
