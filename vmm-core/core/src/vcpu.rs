//! What a vCPU thread does: enter the guest, answer its exit, enter again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_hypervisor::{EngineError, Exit, Vcpu};
use bulkhead_machine::bus::Bus;
use bulkhead_machine::ioapic::Ioapic;

use crate::gate::Gate;
use crate::notice::{Notice, Notices};

/// A vCPU that its thread holds while it is inside the gate, and the event loop while nobody is.
pub type SharedVcpu = Arc<Mutex<Box<dyn Vcpu>>>;

/// Where exits lead.
pub struct Exits {
    /// Ports.
    pub pio: Arc<Bus>,
    /// Addresses where no RAM is.
    pub mmio: Arc<Bus>,
    /// To be told of ended interrupts.
    pub ioapic: Arc<Ioapic>,
    /// The event loop.
    pub notices: Notices,
    /// The guest has written to a port.
    pub started: AtomicBool,
    /// Exits answered, of all vCPUs: what a heartbeat calls progress.
    pub answered: AtomicU64,
}

/// A thread's place in the machine.
pub struct Seat {
    /// Number of the vCPU.
    pub index: u8,
    /// The vCPU.
    pub vcpu: SharedVcpu,
    /// When to run.
    pub gate: Arc<Gate>,
    /// Where exits lead.
    pub exits: Arc<Exits>,
}

impl Seat {
    /// Runs the vCPU whenever the gate is open, for ever.
    pub fn work(&self) -> ! {
        loop {
            self.gate.enter(self.index);
            if let Err(reason) = self.run() {
                self.gate.shut();
                if let Some(reason) = reason {
                    self.exits.notices.tell(Notice::Crashed { cpu: self.index, reason });
                }
            }
            self.gate.leave();
        }
    }

    /// Runs until the gate is shut, or the vCPU cannot go on: `None` if that is the supervisor's to tell.
    fn run(&self) -> Result<(), Option<String>> {
        let mut vcpu = self.vcpu.lock().unwrap_or_else(PoisonError::into_inner);
        while self.gate.is_open() {
            let exit = vcpu.run().map_err(|error| match error {
                EngineError::Gone => None,
                other => Some(other.to_string()),
            })?;
            if let Exit::Debug(stop) = exit {
                self.gate.shut();
                self.exits.notices.tell(Notice::Debugged { cpu: self.index, stop });
                return Ok(());
            }
            self.exits.answer(exit).map_err(Some)?;
        }
        Ok(())
    }
}

impl Exits {
    fn answer(&self, exit: Exit<'_>) -> Result<(), String> {
        match exit {
            Exit::PioIn { port, width, data } => {
                data.chunks_mut(width.max(1).into())
                    .for_each(|data| self.pio.read(port.into(), data));
            }
            Exit::PioOut { port, width, data } => {
                self.note_start();
                data.chunks(width.max(1).into()).for_each(|data| self.pio.write(port.into(), data));
            }
            Exit::MmioRead { address, data } => self.mmio.read(address, data),
            Exit::MmioWrite { address, data } => self.mmio.write(address, data),
            Exit::Eoi(vector) => self.ioapic.end_of_interrupt(vector),
            Exit::Interrupted | Exit::Debug(_) => {}
            Exit::Shutdown => return Err("triple fault".into()),
            Exit::Hlt => return Err("halted with interrupts off, and no other runs".into()),
            Exit::SystemEvent(kind) => {
                return Err(format!("the guest reported system event {kind}"));
            }
            Exit::FailEntry { reason, cpu } => {
                return Err(format!(
                    "the processor refused the guest's state ({reason:#x}, CPU {cpu})"
                ));
            }
            Exit::InternalError { code } => {
                return Err(format!("KVM could not go on (internal error {code})"));
            }
            Exit::Unexpected(reason) => {
                return Err(format!("KVM stopped for a reason unknown here ({reason})"));
            }
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn note_start(&self) {
        if !self.started.load(Ordering::Relaxed) && !self.started.swap(true, Ordering::Relaxed) {
            self.notices.tell(Notice::GuestStarted);
        }
    }
}
