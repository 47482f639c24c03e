//! The run loop: block after block, and between them whatever has to be looked at.
//!
//! ```text
//!  signals ─► timer ─► interrupt? ─► blocks … ─► why did they stop?
//!    ▲                                              │ fault, int n: deliver
//!    └──────────────────────────────────────────────┤ hlt: sleep, unless nothing can end it
//!                                                   └ outside, kick, triple fault: return
//! ```

mod bounded;
#[cfg(test)]
mod tests;

pub use bounded::Turns;

use std::sync::atomic::Ordering;

use bulkhead_hypervisor::DebugStop;

use crate::apic::signal;
use crate::cpu::Cpu;
use crate::event::{Event, Source, TripleFault};
use crate::fault::{Exception, Raised, Stop, vector};
use crate::jit::Ran;
use crate::op::{At, Next};
use crate::state::{Reg, rflags};

/// Instructions between two looks at the clock, and, in compiled code, at signals.
pub(crate) const SLICE: u32 = 16384;

/// What a vCPU does while it does not execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It executes.
    Running,
    /// Behind HLT.
    Halted,
    /// Not the boot processor, or after INIT: waits for a start-up message.
    WaitsForStartup,
}

/// Why a vCPU came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// An access waits for its answer in `Cpu::replay`.
    Outside,
    /// A kick.
    Kicked,
    /// A level-triggered interrupt ended.
    Ended(u8),
    /// What a debugger waits for.
    Debug(DebugStop),
    /// Triple fault.
    Shutdown,
    /// No vCPU of the machine executes, and no interrupt can change that.
    Resting,
}

impl Cpu {
    /// Executes until something has to be done outside.
    pub(crate) fn run(&mut self) -> Pause {
        self.go_inside();
        if self.clock.counts {
            self.begin_turn();
        }
        let pause = self.run_inside();
        if self.clock.counts {
            self.end_turn();
        }
        self.send_trace(true);
        self.go_outside();
        pause
    }

    fn run_inside(&mut self) -> Pause {
        loop {
            if self.apic.mailbox.signals.load(Ordering::Relaxed) != 0
                && let Some(pause) = self.take_signals()
            {
                return pause;
            }
            self.poll_timer();
            match self.activity {
                Activity::Running => {}
                Activity::Halted if self.interrupt_is_due() => self.activity = Activity::Running,
                _ if self.rests_for_good() => return Pause::Resting,
                _ if self.clock.counts => {
                    self.apic.leave_rest();
                    match self.sleep_through() {
                        true => continue,
                        false => return Pause::Kicked,
                    }
                }
                _ => {
                    self.sleep();
                    continue;
                }
            }
            if self.clock.counts {
                self.use_turn();
            }
            let stepped = self.step();
            self.publish();
            self.send_trace(false);
            match stepped {
                // Whoever counts instructions wants to look at each turn.
                Ok(None) if self.clock.counts => return Pause::Kicked,
                Ok(None) => {}
                Ok(Some(pause)) => return pause,
                Err(TripleFault) => return Pause::Shutdown,
            }
        }
    }

    /// One turn: an interrupt if one is due, then blocks, then whatever stopped them.
    fn step(&mut self) -> Result<Option<Pause>, TripleFault> {
        let restarts = self.replay.is_pending();
        let halts_behind = self.debugger.steps();
        let is_open = !restarts && !self.shadow && !halts_behind;
        if is_open && self.interrupt_is_due() {
            self.take_interrupt()?;
        }
        let (shadow, held) = (std::mem::take(&mut self.shadow), self.debug_pending);
        let steps = self.system_flags & rflags::TF != 0;
        let breaks = self.breaks_on_code();
        let starts = !restarts && !self.restarts_alone;
        let is_awaited = breaks && self.debugger.breaks_at(self.code_linear());
        if breaks && starts && !is_awaited && self.code_breakpoint() {
            self.deliver_exception(Exception::plain(vector::DB))?;
            return Ok(self.debugger.after_instruction().map(Pause::Debug));
        }
        // It was for this instruction; an `iret` may set it again.
        let resumes = self.system_flags & rflags::RF;
        self.system_flags &= !rflags::RF;
        let alone = shadow || !starts || steps || breaks || self.is_strict || halts_behind;
        self.restarts_alone = false;
        let stop = match std::mem::take(&mut self.restarts_exclusive) {
            true => self.run_exclusively(),
            false => self.run_blocks(alone),
        };
        if alone && !matches!(stop, Stop::Outside | Stop::Alone | Stop::Exclusive) {
            self.replay.clear();
        }
        let done = matches!(stop, Stop::Lookup | Stop::Window | Stop::Spin | Stop::Halt);
        let holds = std::mem::take(&mut self.holds_traps) && done;
        if !done {
            self.debug_pending = 0;
            self.debugger.met = None;
        } else if holds {
            // They come behind the next instruction.
        } else if steps || self.debug_pending != 0 {
            self.trap_debug(steps)?;
        }
        match stop {
            Stop::Lookup | Stop::Window => {}
            Stop::Spin => self.give_way(),
            Stop::Fault(exception) => self.deliver_exception(exception)?,
            Stop::Trap(exception) => self.deliver_exception(exception)?,
            Stop::Software(vector) => self.deliver_software(vector)?,
            Stop::Alone | Stop::Exclusive => {
                (self.restarts_alone, self.restarts_exclusive) = (true, stop == Stop::Exclusive);
                // It has not begun: what was meant for it still is. Nothing comes before it either: what stands
                // before it in its block may have been `sti`.
                (self.shadow, self.debug_pending) = (true, held);
                self.system_flags |= resumes;
                return Ok(None);
            }
            Stop::Outside => return Ok(Some(Pause::Outside)),
            Stop::Breakpoint => {
                // It has not begun: what was meant for it still is.
                self.shadow = shadow;
                self.system_flags |= resumes;
                return Ok(Some(Pause::Debug(DebugStop::Code)));
            }
            Stop::Halt => self.activity = Activity::Halted,
        }
        Ok(self.debugger.after_instruction().map(Pause::Debug))
    }

    /// Executes blocks until a handler stops, a signal comes, or the slice is over. `alone`: one
    /// instruction.
    pub(crate) fn run_blocks(&mut self, alone: bool) -> Stop {
        self.stop = Stop::Lookup;
        self.is_alone = alone;
        self.regs.set(Reg::BUDGET, self.slice);
        if let Some(jit) = &mut self.blocks.jit {
            // Whatever happened since: it is not where that exit leads.
            jit.unlinked = None;
        }
        let stop = self.run_slice(alone);
        self.executed = self.counted();
        self.regs.set(Reg::BUDGET, self.slice);
        stop
    }

    /// Instructions executed up to now, those of the block under way included.
    pub(crate) fn counted(&self) -> u64 {
        let used = self.slice - self.regs.get::<u32>(Reg::BUDGET);
        self.executed.wrapping_add(used.into())
    }

    fn run_slice(&mut self, alone: bool) -> Stop {
        loop {
            let mut next = match self.block_at_rip(alone) {
                Ok(next) => next,
                Err(Raised) => return self.stop,
            };
            while next != Next::LOOKUP {
                if !alone && self.blocks.jit.is_some() {
                    match self.run_compiled(next) {
                        Ran::Not => {}
                        Ran::Over => return self.stop,
                        Ran::To(_) if self.has_signals() => return self.stop,
                        Ran::To(then) => {
                            next = then;
                            continue;
                        }
                    }
                }
                // SAFETY: a `Next` leads to a live block: nothing is freed before the next look-up.
                let count = unsafe { (*next.block()).count };
                let budget: u32 = self.regs.get(Reg::BUDGET);
                let Some(left) = budget.checked_sub(count.into()) else {
                    return self.stop;
                };
                self.regs.set(Reg::BUDGET, left);
                // SAFETY: as above.
                let at = unsafe { At::new(next.0) };
                next = at.enter(self);
                if alone || self.has_signals() {
                    return self.stop;
                }
            }
            if self.stop != Stop::Lookup || self.has_to_look() {
                return self.stop;
            }
        }
    }

    /// Whether others want this processor to look.
    pub(crate) fn has_signals(&self) -> bool {
        self.apic.mailbox.signals.load(Ordering::Relaxed) != 0
    }

    /// Has compiled code come back at the next block's beginning.
    pub(crate) fn end_slice(&mut self) {
        let budget: u32 = self.regs.get(Reg::BUDGET);
        self.executed = self.executed.wrapping_sub(budget.into());
        self.regs.set(Reg::BUDGET, 0u32);
    }

    /// Executes one instruction while no other vCPU executes.
    fn run_exclusively(&mut self) -> Stop {
        self.take_world();
        let stop = self.run_blocks(true);
        self.give_world_back();
        stop
    }

    /// Whether an instruction that ended its block has changed what the run loop cares about: it opened
    /// interrupts, switched single-step or breakpoints on, or holds interrupts off for one instruction.
    pub(crate) fn has_to_look(&self) -> bool {
        self.shadow
            || self.system_flags & rflags::TF != 0
            || self.is_strict
            || self.debug.control & 0xff != 0
            || self.interrupt_is_due()
    }

    /// Completes an instruction whose accesses have been answered, unless it needs a further one.
    pub(crate) fn finish_access(&mut self) {
        if self.replay.is_pending() {
            self.go_inside();
            // Alone, in case it is locked: nobody asks for a second answer here.
            if self.run_exclusively() == Stop::Lookup {
                self.replay.clear();
            }
            self.go_outside();
        }
    }

    fn take_signals(&mut self) -> Option<Pause> {
        let signals = self.apic.mailbox.take();
        self.obey();
        self.make_way();
        if signals & signal::WORK != 0 {
            self.apic.collect();
        }
        if signals & signal::INIT != 0 {
            self.initialize();
            self.activity = Activity::WaitsForStartup;
        }
        if signals & signal::STARTUP != 0 && self.activity == Activity::WaitsForStartup {
            let vector = self.apic.mailbox.startup();
            self.start_up(vector);
            self.activity = Activity::Running;
        }
        if signals & signal::NMI != 0 {
            self.nmi_pending = true;
        }
        if signals & signal::KICK != 0 {
            // What else there is, is looked at in the next run.
            self.apic.mailbox.signals.fetch_or(signals & signal::WORK, Ordering::Relaxed);
            return Some(Pause::Kicked);
        }
        self.apic.take_ended().map(Pause::Ended)
    }

    pub(crate) fn interrupt_is_due(&self) -> bool {
        self.nmi_pending && !self.nmi_blocked
            || self.system_flags & rflags::IF != 0 && self.apic.pending().is_some()
    }

    fn take_interrupt(&mut self) -> Result<(), TripleFault> {
        self.interrupts += 1;
        if self.nmi_pending && !self.nmi_blocked {
            self.nmi_pending = false;
            self.nmi_blocked = true;
            let event = Event { vector: vector::NMI, code: None, source: Source::External };
            return self.deliver(event);
        }
        if let Some(vector) = self.apic.pending() {
            self.apic.accept(vector);
            return self.deliver(Event { vector, code: None, source: Source::External });
        }
        Ok(())
    }

    fn sleep(&mut self) {
        let expiry = self.apic.expiry();
        let longest =
            (expiry != u64::MAX).then(|| self.clock.duration(expiry.saturating_sub(self.now())));
        self.send_trace(true);
        self.go_outside();
        self.apic.mailbox.clone().sleep(longest);
        self.apic.leave_rest();
        self.go_inside();
    }

    /// Whether this vCPU, which does not execute, was the machine's last hope: an interrupt that it would
    /// take still wakes it, and whatever another one sends.
    fn rests_for_good(&self) -> bool {
        let is_halted = self.activity == Activity::Halted;
        let is_open = is_halted && self.system_flags & rflags::IF != 0;
        if is_open || !self.apic.come_to_rest(is_halted) {
            return false;
        }
        self.apic.leave_rest();
        true
    }
}
