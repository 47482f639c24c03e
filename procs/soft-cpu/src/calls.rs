//! Interrupts of devices: where each number leads, and the eventfds that raise them.
//!
//! Called by [`crate::serve`], whose main thread waits on the poller, and by [`crate::engine`] in one
//! process with its caller, which has a thread for that.
//!
//! ```text
//!  device ── eventfd ─► poller: token ─► `heard` ─► the message to deliver
//! ```
//!
//! Law: a signal is taken from an eventfd only while it is connected; after that it stays in the counter.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulkhead_hypervisor::{EngineError, Gsi, Msi};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::poller::{Interest, Poller, Token};

/// A device's call: each signal on it is an interrupt.
#[derive(Debug)]
struct Call {
    gsi: Gsi,
    bell: Doorbell,
}

#[derive(Debug, Default)]
struct Table {
    routes: BTreeMap<Gsi, Msi>,
    calls: BTreeMap<u64, Call>,
}

/// A machine's interrupt numbers.
#[derive(Debug)]
pub(crate) struct Calls {
    poller: Poller,
    /// The token of connection 0; a connection's number is added.
    first: Token,
    table: Mutex<Table>,
}

fn host(action: &'static str) -> impl FnOnce(std::io::Error) -> EngineError {
    move |source| EngineError::Host { action, source }
}

impl Calls {
    /// None connected yet; whoever waits on `poller` passes on tokens from `first` to
    /// [`heard`](Self::heard).
    pub(crate) fn new(poller: Poller, first: Token) -> Self {
        Self { poller, first, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are connected.
    pub(crate) fn len(&self) -> usize {
        self.table().calls.len()
    }

    /// From now on these numbers lead there; `None`: nowhere.
    pub(crate) fn set_routes(&self, changes: impl IntoIterator<Item = (Gsi, Option<Msi>)>) {
        let routes = &mut self.table().routes;
        for (gsi, route) in changes {
            match route {
                Some(message) => routes.insert(gsi, message),
                None => routes.remove(&gsi),
            };
        }
    }

    /// From now on a signal on `bell` raises `gsi`. `connection` is a number that no other has.
    pub(crate) fn connect(
        &self,
        connection: u64,
        gsi: Gsi,
        bell: Doorbell,
    ) -> Result<(), EngineError> {
        let mut table = self.table();
        let token = self.first + connection;
        self.poller.add(&bell, token, Interest::Read).map_err(host("connect an interrupt"))?;
        table.calls.insert(connection, Call { gsi, bell });
        Ok(())
    }

    /// Undoes that; `false`: there is no such connection.
    pub(crate) fn disconnect(&self, connection: u64) -> Result<bool, EngineError> {
        let Some(call) = self.table().calls.remove(&connection) else { return Ok(false) };
        self.poller.remove(&call.bell).map_err(host("disconnect an interrupt"))?;
        Ok(true)
    }

    /// Something has happened at a token: the message to deliver.
    pub(crate) fn heard(&self, token: Token) -> Option<Msi> {
        let table = self.table();
        let call = table.calls.get(&token.checked_sub(self.first)?)?;
        if !call.bell.clear() {
            // No eventfd is readable and has nothing to be read.
            let _ = self.poller.remove(&call.bell);
            return None;
        }
        table.routes.get(&call.gsi).copied()
    }
}
