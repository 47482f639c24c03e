//! Exceptions and interrupts on their way into the guest (Intel SDM volume 3, chapter 6).
//!
//! A fault while one is delivered becomes another event: the same as if it had come by itself, or a
//! double fault; a fault while that is delivered is a triple fault, and the machine's end.

mod gate;
mod real;

use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, Stop, vector};
use crate::state::rflags;

/// Where an event comes from: it decides about privilege checks and the EXT bit of error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The processor: a fault or a trap.
    Exception,
    /// An interrupt.
    External,
    /// `int n`, `int3`, `into`.
    Software,
}

/// What is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) vector: u8,
    pub(crate) code: Option<u32>,
    pub(crate) source: Source,
}

/// The processor has shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TripleFault;

/// How a second fault combines with the first (Intel SDM volume 3, table 6-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
}

fn class(event: Event) -> Class {
    match (event.source, event.vector) {
        (Source::Exception, vector::PF) => Class::PageFault,
        (Source::Exception, vector::DE | vector::TS | vector::NP | vector::SS | vector::GP) => {
            Class::Contributory
        }
        _ => Class::Benign,
    }
}

impl Event {
    fn ext(self) -> u32 {
        u32::from(self.source != Source::Software)
    }
}

impl Cpu {
    /// Delivers an exception; RIP is what the handler shall return to.
    pub(crate) fn deliver_exception(&mut self, exception: Exception) -> Result<(), TripleFault> {
        self.note_exception(exception);
        let Exception { vector, code, .. } = exception;
        self.deliver(Event { vector, code, source: Source::Exception })
    }

    fn note_exception(&mut self, exception: Exception) {
        self.exceptions += 1;
        self.trace_exception(exception);
        if exception.vector == vector::PF {
            self.control.cr2 = exception.address;
        }
    }

    /// Delivers an event, whatever happens on the way.
    pub(crate) fn deliver(&mut self, event: Event) -> Result<(), TripleFault> {
        let mut event = event;
        loop {
            let Err(Raised) = self.enter(event) else {
                return Ok(());
            };
            let Stop::Fault(second) = self.stop else {
                // A table in memory that is no RAM: nothing that a processor could go on with.
                return Err(TripleFault);
            };
            self.note_exception(second);
            if event.vector == vector::DF && event.source == Source::Exception {
                return Err(TripleFault);
            }
            let next =
                Event { vector: second.vector, code: second.code, source: Source::Exception };
            let doubles = matches!(
                (class(event), class(next)),
                (Class::Contributory, Class::Contributory)
                    | (Class::PageFault, Class::Contributory | Class::PageFault)
            );
            event = match doubles {
                false => next,
                true => Event { vector: vector::DF, code: Some(0), source: Source::Exception },
            };
        }
    }

    /// Delivers `int n`, at which RIP is: the handler returns behind it, but a fault on the way is its own.
    pub(crate) fn deliver_software(&mut self, vector: u8) -> Result<(), TripleFault> {
        let rip = self.rip();
        self.set_rip(rip.wrapping_add(self.software_len.into()));
        if self.enter(Event { vector, code: None, source: Source::Software }).is_ok() {
            return Ok(());
        }
        self.set_rip(rip);
        match self.stop {
            Stop::Fault(exception) => self.deliver_exception(exception),
            _ => Err(TripleFault),
        }
    }

    fn enter(&mut self, event: Event) -> Result<(), Raised> {
        self.shadow = false;
        if !self.mode.is_protected() {
            return self.enter_real(event);
        }
        self.enter_gate(event)
    }

    /// The flags as an event pushes them: a fault must not meet its instruction breakpoint again.
    fn pushed_flags(&self, event: Event) -> u64 {
        let is_fault = event.source == Source::Exception && event.vector != vector::DB;
        self.rflags() | if is_fault { rflags::RF } else { 0 }
    }
}
