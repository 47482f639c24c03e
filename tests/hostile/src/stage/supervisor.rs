//! The supervisor's part: hands the connection over, and says stop when the process has let go of it.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use bulkhead_backend_kit::{Instruction, Link, Role};
use bulkhead_protocol::device::DeviceEvent;
use bulkhead_runtime::{Incoming, RuntimeError};
use bulkhead_sys::eventfd::Doorbell;

use super::taker::Taker;

/// Looks at the supervisor's channel after which a process hangs. A script has a hundred messages and
/// costs a look for each.
const MOST_LOOKS: u32 = 20_000;

/// The supervisor.
pub struct Supervisor {
    bell: Doorbell,
    connection: RefCell<Option<OwnedFd>>,
    /// What it was told.
    pub events: Rc<RefCell<Vec<DeviceEvent>>>,
    looks: Cell<u32>,
}

impl Supervisor {
    /// Has this connection to hand over.
    pub fn new(connection: OwnedFd) -> Self {
        let bell = Doorbell::new().expect("an eventfd");
        // For ever, so that a process that waits for nothing is noticed.
        bell.ring();
        let connection = RefCell::new(Some(connection));
        Self { bell, connection, events: Rc::default(), looks: Cell::new(0) }
    }
}

impl Link<()> for Supervisor {
    fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn next(&self) -> Result<Option<Incoming<()>>, RuntimeError> {
        self.looks.set(self.looks.get() + 1);
        assert!(self.looks.get() < MOST_LOOKS, "the process never lets go of its frontend");
        if let Some(connection) = self.connection.take() {
            return Ok(Some(Incoming::Role((), vec![connection])));
        }
        let over = self.events.borrow().contains(&DeviceEvent::Disconnected);
        Ok(over.then_some(Incoming::Stop))
    }

    fn alive(&self, _number: u64, _progress: u64) -> Result<(), RuntimeError> {
        Ok(())
    }

    fn progressed(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    fn event(&self, event: &DeviceEvent) -> Result<(), RuntimeError> {
        self.events.borrow_mut().push(event.clone());
        Ok(())
    }

    fn log(&self, line: &str) {
        assert!(!line.contains('\n'), "one line: {line:?}");
    }
}

/// Understands that a descriptor is a connection.
pub struct Usher;

impl Role for Usher {
    type Command = ();
    type Device = Taker;

    fn understand(&mut self, (): (), fds: Vec<OwnedFd>) -> Result<Vec<Instruction<()>>, String> {
        Ok(fds.into_iter().map(Instruction::Connect).collect())
    }
}
