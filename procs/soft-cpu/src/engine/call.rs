//! Calls where the engine is in one process with its caller: a thread waits for them.
//!
//! The thread ends with the machine. A sealed process, which can make no thread, waits itself: see
//! [`crate::serve`].

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_hypervisor::interrupt::IOAPIC_PINS;
use bulkhead_hypervisor::{EngineError, Gsi, Msi};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::{Interest, Poller};

use crate::apic::Fabric;
use crate::calls::Calls;

/// Interrupt numbers that there are.
const GSIS: u32 = 1024;

/// The token of the bell that ends the thread; connections' follow.
const END: u64 = 0;

#[derive(Debug, Default)]
struct Numbers {
    used: BTreeSet<Gsi>,
    last_connection: u64,
    /// By the number that an eventfd was given under, and its interrupt's.
    connections: BTreeMap<(RawFd, Gsi), u64>,
}

/// The machine's end of the thread.
#[derive(Debug)]
pub(super) struct Listener {
    calls: Arc<Calls>,
    numbers: Mutex<Numbers>,
    end: Doorbell,
}

fn host(action: &'static str) -> impl FnOnce(std::io::Error) -> EngineError {
    move |source| EngineError::Host { action, source }
}

impl Listener {
    /// Nothing connected yet; the thread runs.
    pub(super) fn new(fabric: Arc<Fabric>) -> Result<Self, EngineError> {
        let poller = Poller::new().map_err(host("make a poller"))?;
        let end = Doorbell::new().map_err(host("make a doorbell"))?;
        poller.add(&end, END, Interest::Read).map_err(host("watch a doorbell"))?;
        let calls = Arc::new(Calls::new(poller.clone(), END));
        let heard = Arc::clone(&calls);
        std::thread::Builder::new()
            .name("calls".into())
            .spawn(move || listen(&heard, &fabric, &poller))
            .map_err(host("start a thread"))?;
        Ok(Self { calls, numbers: Mutex::default(), end })
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn allocate(&self) -> Result<Gsi, EngineError> {
        let mut numbers = self.numbers();
        let mut all = (u32::from(IOAPIC_PINS)..GSIS).map(Gsi);
        let free = all.find(|gsi| !numbers.used.contains(gsi));
        let gsi = free.ok_or(EngineError::NoGsiLeft { limit: GSIS })?;
        numbers.used.insert(gsi);
        Ok(gsi)
    }

    pub(super) fn release(&self, gsi: Gsi) {
        self.numbers().used.remove(&gsi);
        self.calls.set_routes([(gsi, None)]);
    }

    pub(super) fn set_routes(&self, changes: &[(Gsi, Option<Msi>)]) {
        self.calls.set_routes(changes.iter().copied());
    }

    pub(super) fn connect(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        let copy = call.try_clone_to_owned().map_err(host("connect an interrupt"))?;
        let mut numbers = self.numbers();
        numbers.last_connection += 1;
        let connection = numbers.last_connection;
        self.calls.connect(connection, gsi, Doorbell::from_fd(copy))?;
        numbers.connections.insert((call.as_raw_fd(), gsi), connection);
        Ok(())
    }

    pub(super) fn disconnect(&self, call: BorrowedFd<'_>, gsi: Gsi) -> Result<(), EngineError> {
        let connection = self.numbers().connections.remove(&(call.as_raw_fd(), gsi));
        let connection = connection.ok_or(EngineError::Bug("this interrupt is not connected"))?;
        self.calls.disconnect(connection).map(drop)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.end.ring();
    }
}

fn listen(calls: &Calls, fabric: &Fabric, poller: &Poller) {
    let mut events = Vec::new();
    while poller.wait(None, &mut events).is_ok() {
        for event in events.drain(..) {
            if event.token == END {
                return;
            }
            if let Some(message) = calls.heard(event.token) {
                fabric.deliver(message);
            }
        }
    }
}
