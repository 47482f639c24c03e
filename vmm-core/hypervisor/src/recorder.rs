//! An engine that executes nothing and writes down what it was asked.
//!
//! Called by the tests of `machine`, `virtio-transport` and `core`, behind the feature `recorder`: a
//! device's interrupts and doorbells can be asserted on without `/dev/kvm`.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_memory::GuestRange;

use crate::engine::{Vcpu, Vm};
use crate::error::EngineError;
use crate::interrupt::{Gsi, IOAPIC_PINS, Msi};
use crate::ioevent::IoEvent;

/// What a [`Recorder`] was asked so far.
#[derive(Debug, Default, Clone)]
pub struct Record {
    /// Messages delivered by [`Vm::signal_msi`], in order.
    pub messages: Vec<Msi>,
    /// The routes as they stand.
    pub routes: BTreeMap<Gsi, Msi>,
    /// How many batches of route changes there were.
    pub batches: usize,
    /// Eventfds connected to interrupts, by descriptor number.
    pub irqfds: Vec<(i32, Gsi)>,
    /// Guest writes connected to eventfds, by descriptor number.
    pub ioevents: Vec<(IoEvent, i32)>,
    /// Device interrupt numbers in use.
    pub allocated: Vec<Gsi>,
    /// Rings that are watched.
    pub rings: Vec<GuestRange>,
    /// Whether writes that are not logged were announced.
    pub unlogged: bool,
}

/// The recording engine.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Record>);

impl Recorder {
    /// A recorder that was asked nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A copy of the record.
    pub fn record(&self) -> Record {
        self.lock().clone()
    }

    /// Messages since the last call.
    pub fn take_messages(&self) -> Vec<Msi> {
        std::mem::take(&mut self.lock().messages)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vm for Recorder {
    fn create_vcpu(&self, _index: u8, _count: u8) -> Result<Box<dyn Vcpu>, EngineError> {
        Err(EngineError::Bug("a recorder executes nothing"))
    }

    fn watch_ring(&self, ring: GuestRange) -> Result<(), EngineError> {
        self.lock().rings.push(ring);
        Ok(())
    }

    fn unwatch_ring(&self, ring: GuestRange) -> Result<(), EngineError> {
        self.lock().rings.retain(|other| *other != ring);
        Ok(())
    }

    fn expect_unlogged_writes(&self) -> Result<(), EngineError> {
        self.lock().unlogged = true;
        Ok(())
    }

    fn signal_msi(&self, msi: Msi) -> Result<(), EngineError> {
        self.lock().messages.push(msi);
        Ok(())
    }

    fn allocate_gsi(&self) -> Result<Gsi, EngineError> {
        let mut record = self.lock();
        let free = (u32::from(IOAPIC_PINS)..).map(Gsi).find(|gsi| !record.allocated.contains(gsi));
        let gsi = free.ok_or(EngineError::Bug("no number left"))?;
        record.allocated.push(gsi);
        Ok(gsi)
    }

    fn release_gsi(&self, gsi: Gsi) {
        let mut record = self.lock();
        record.allocated.retain(|other| *other != gsi);
        record.routes.remove(&gsi);
    }

    fn set_routes(&self, changes: &[(Gsi, Option<Msi>)]) -> Result<(), EngineError> {
        let mut record = self.lock();
        record.batches += 1;
        for (gsi, route) in changes {
            match route {
                Some(msi) => record.routes.insert(*gsi, *msi),
                None => record.routes.remove(gsi),
            };
        }
        Ok(())
    }

    fn connect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        self.lock().irqfds.push((call.as_raw_fd(), gsi));
        Ok(())
    }

    fn disconnect_irqfd(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        self.lock().irqfds.retain(|entry| *entry != (call.as_raw_fd(), gsi));
        Ok(())
    }

    fn connect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.lock().ioevents.push((event, kick.as_raw_fd()));
        Ok(())
    }

    fn disconnect_ioevent(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.lock().ioevents.retain(|entry| *entry != (event, kick.as_raw_fd()));
        Ok(())
    }

    fn breakpoint_limit(&self) -> Option<usize> {
        None
    }

    fn code_changed(&self, _address: u64, _len: u64) -> Result<(), EngineError> {
        Ok(())
    }
}
