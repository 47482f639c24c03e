//! What every engine offers: the three traits.
//!
//! Callers: `core` makes and runs, `machine` and `virtio-transport` use [`Vm`] for interrupts and
//! doorbells. The traits are object-safe, so that one machine serves all engines without generics.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_protocol::soft_cpu::{Counters, Unknown};

use crate::debug::GuestDebug;
use crate::error::EngineError;
use crate::exit::Exit;
use crate::interrupt::{Gsi, Msi};
use crate::ioevent::IoEvent;
use crate::x86_64::VcpuState;

/// Something that can make virtual machines.
pub trait Hypervisor {
    /// A machine with `memory` as its RAM, no vCPU yet, and 24 interrupt pins that lead nowhere.
    fn create_vm(&self, memory: &GuestMemory) -> Result<Arc<dyn Vm>, EngineError>;
}

/// One virtual machine: its vCPUs, its interrupt routes, its doorbells.
///
/// All methods may be called from any thread at any time.
pub trait Vm: Send + Sync {
    /// Makes vCPU number `index` of `count`. Its local APIC's id is `index`; vCPU 0 is the one that
    /// boots, the others wait for INIT and SIPI.
    fn create_vcpu(&self, index: u8, count: u8) -> Result<Box<dyn Vcpu>, EngineError>;

    /// Delivers one message-signalled interrupt now. A message that no local APIC accepts is the
    /// guest's own business and no error.
    fn signal_msi(&self, msi: Msi) -> Result<(), EngineError>;

    /// Takes an unused device interrupt number (from 24). It leads nowhere until it is routed.
    fn allocate_gsi(&self) -> Result<Gsi, EngineError>;

    /// Gives a number back and forgets its route. Its irqfds must have been disconnected.
    fn release_gsi(&self, gsi: Gsi);

    /// Changes any number of routes in one step; `None` makes an interrupt lead nowhere.
    fn set_routes(&self, changes: &[(Gsi, Option<Msi>)]) -> Result<(), EngineError>;

    /// From now on each signal on the eventfd `call` delivers `gsi`'s message without passing through
    /// this process. If the eventfd is signalled already, it is delivered at once.
    fn connect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError>;

    /// Undoes [`Vm::connect_irqfd`]. Signals from now on stay in the eventfd's counter.
    fn disconnect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError>;

    /// From now on guest writes that match `event` signal the eventfd `kick` instead of exiting.
    fn connect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError>;

    /// Undoes [`Vm::connect_ioevent`]; both arguments as they were.
    fn disconnect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError>;

    /// Breakpoints and watches, together, that a vCPU can have; `None`: any number.
    fn breakpoint_limit(&self) -> Option<usize> {
        None
    }

    /// This process has written to `len` bytes of RAM at `address`, which the guest may execute. No vCPU
    /// runs. An engine that reads code anew each time has nothing to do.
    fn code_changed(&self, _address: u64, _len: u64) -> Result<(), EngineError> {
        Ok(())
    }

    /// From now on a device tells the guest what it has written to guest memory by a write to `ring` (its
    /// used ring). An engine that keeps translations of guest code drops those that were written over
    /// before a vCPU gets to see such news. To a processor of the host there is nothing to be said.
    fn watch_ring(&self, _ring: GuestRange) -> Result<(), EngineError> {
        Ok(())
    }

    /// Undoes one [`Vm::watch_ring`].
    fn unwatch_ring(&self, _ring: GuestRange) -> Result<(), EngineError> {
        Ok(())
    }

    /// From now on there is a device whose writes are not marked in the log of written pages.
    fn expect_unlogged_writes(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// From now on it is noted which pages of RAM the vCPUs write; nothing is yet. Pages that are written meanwhile
    /// may or may not be: whoever copies a machine copies all of it behind this.
    fn start_dirty_log(&self) -> Result<(), EngineError> {
        Err(EngineError::Bug("an engine that keeps no log of writes"))
    }

    /// It is noted no more.
    fn stop_dirty_log(&self) -> Result<(), EngineError> {
        Err(EngineError::Bug("an engine that keeps no log of writes"))
    }

    /// The pages of RAM region number `region` that the vCPUs have written since this was last asked, or since the
    /// log was started: bit `n` of word `w` for page 64·`w` + `n` of the region. vCPUs may run: what they write and is
    /// not in this answer will be in a later one, so the pages are to be copied afterwards. What other processes
    /// write is not in it ([`bulkhead_memory::WrittenPages`] is for devices), nor what this one does.
    fn get_dirty_log(&self, _region: usize) -> Result<Vec<u64>, EngineError> {
        Err(EngineError::Bug("an engine that keeps no log of writes"))
    }

    /// vCPUs that are made from now on tell what they execute, as text in datagrams on `socket`: an engine
    /// that can, and for the first socket given.
    fn trace_to(&self, _socket: OwnedFd) {}

    /// What the vCPUs have counted so far; `None`: this engine does not count.
    fn counters(&self) -> Option<Counters> {
        None
    }

    /// The last instruction of the guest's that this engine lacks, if there was one.
    fn last_unknown(&self) -> Option<Unknown> {
        None
    }
}

/// One virtual CPU. It is run by one thread at a time.
pub trait Vcpu: Send {
    /// Executes the guest until something has to be done outside. What an exit asks to be filled in
    /// (the data of a read) must be filled in before the next call.
    fn run(&mut self) -> Result<Exit<'_>, EngineError>;

    /// A handle by which other threads end [`Vcpu::run`] early.
    fn kick_handle(&self) -> Arc<dyn Kick>;

    /// Everything there is to know about this vCPU. A read or a write that was reported but not
    /// completed yet is completed first, without executing a further instruction.
    fn state(&mut self) -> Result<Box<VcpuState>, EngineError>;

    /// Tells the guest's clock that the machine was stopped from outside, so that its watchdogs do not
    /// take the gap for a hang. A guest without a paravirtual clock is not told.
    fn excuse_pause(&mut self);

    /// Replaces everything there is to know about this vCPU.
    fn set_state(&mut self, state: &VcpuState) -> Result<(), EngineError>;

    /// Replaces the registers that a debugger may write (`regs`, `sregs`, `xsave`) and nothing else:
    /// clocks and interrupts go on as they are.
    fn set_registers(&mut self, state: &VcpuState) -> Result<(), EngineError>;

    /// What it shall stop for from now on, until it is told otherwise.
    fn set_guest_debug(&mut self, debug: &GuestDebug) -> Result<(), EngineError>;
}

/// Ends a vCPU's run early.
pub trait Kick: Send + Sync {
    /// The run under way, or if there is none the next one, returns [`Exit::Interrupted`].
    /// Several kicks before that return count as one.
    fn kick(&self);
}
