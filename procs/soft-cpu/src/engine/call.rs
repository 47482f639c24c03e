//! Interrupts: where each number leads, and the eventfds that raise them without passing through a vCPU.
//!
//! One thread for each machine waits on all connected eventfds. It ends with the machine.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bulkhead_hypervisor::interrupt::IOAPIC_PINS;
use bulkhead_hypervisor::{EngineError, Gsi, Msi};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::{Interest, Poller};

use crate::apic::Fabric;

/// Interrupt numbers that there are.
const GSIS: u32 = 1024;

/// The token of the bell that ends the thread; others are interrupt numbers.
const END: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Table {
    /// Numbers in use, and the message of each.
    routes: BTreeMap<Gsi, Option<Msi>>,
    /// Connected eventfds, with the number that each was given under.
    calls: Vec<(RawFd, Gsi, Doorbell)>,
}

/// A machine's interrupt numbers.
#[derive(Debug)]
pub(super) struct Calls {
    table: Mutex<Table>,
    fabric: Arc<Fabric>,
    poller: Poller,
    end: Doorbell,
}

fn host(action: &'static str) -> impl FnOnce(std::io::Error) -> EngineError {
    move |source| EngineError::Host { action, source }
}

impl Calls {
    /// None connected yet; the thread runs.
    pub(super) fn new(fabric: Arc<Fabric>) -> Result<Arc<Self>, EngineError> {
        let poller = Poller::new().map_err(host("make a poller"))?;
        let end = Doorbell::new().map_err(host("make a doorbell"))?;
        poller.add(end.as_fd(), END, Interest::Read).map_err(host("watch a doorbell"))?;
        let calls = Arc::new(Self { table: Mutex::default(), fabric, poller, end });
        let (watched, poller) = (Arc::downgrade(&calls), calls.poller.clone());
        std::thread::Builder::new()
            .name("calls".into())
            .spawn(move || watch(&watched, &poller))
            .map_err(host("start a thread"))?;
        Ok(calls)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn allocate(&self) -> Result<Gsi, EngineError> {
        let mut table = self.table();
        let mut numbers = (u32::from(IOAPIC_PINS)..GSIS).map(Gsi);
        let free = numbers.find(|gsi| !table.routes.contains_key(gsi));
        let gsi = free.ok_or(EngineError::NoGsiLeft { limit: GSIS })?;
        table.routes.insert(gsi, None);
        Ok(gsi)
    }

    pub(super) fn release(&self, gsi: Gsi) {
        self.table().routes.remove(&gsi);
    }

    pub(super) fn set_routes(&self, changes: &[(Gsi, Option<Msi>)]) {
        self.table().routes.extend(changes.iter().copied());
    }

    pub(super) fn connect(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        let copy = call.try_clone_to_owned().map_err(host("connect an interrupt"))?;
        let bell = Doorbell::from_fd(copy);
        let mut table = self.table();
        let added = self.poller.add(bell.as_fd(), gsi.0.into(), Interest::Read);
        added.map_err(host("connect an interrupt"))?;
        table.calls.push((call.as_raw_fd(), gsi, bell));
        Ok(())
    }

    pub(super) fn disconnect(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        let mut table = self.table();
        let number = call.as_raw_fd();
        let place = table.calls.iter().position(|entry| (entry.0, entry.1) == (number, gsi));
        let place = place.ok_or(EngineError::Bug("this interrupt is not connected"))?;
        let (_, _, bell) = table.calls.swap_remove(place);
        self.poller.remove(bell.as_fd()).map_err(host("disconnect an interrupt"))
    }

    /// Delivers what `gsi`'s eventfds were signalled for. Under the lock, so that a signal after
    /// [`disconnect`](Self::disconnect) stays where it is.
    fn raise(&self, gsi: Gsi) {
        let table = self.table();
        let mut rung = false;
        for (_, _, bell) in table.calls.iter().filter(|entry| entry.1 == gsi) {
            rung |= bell.clear();
        }
        if rung && let Some(Some(message)) = table.routes.get(&gsi) {
            self.fabric.deliver(*message);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.end.ring();
    }
}

fn watch(calls: &Weak<Calls>, poller: &Poller) {
    let mut events = Vec::new();
    while poller.wait(None, &mut events).is_ok() {
        for event in events.drain(..) {
            let Some(calls) = calls.upgrade().filter(|_| event.token != END) else {
                return;
            };
            if let Ok(gsi) = u32::try_from(event.token) {
                calls.raise(Gsi(gsi));
            }
        }
    }
}
