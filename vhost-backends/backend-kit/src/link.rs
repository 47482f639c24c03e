//! The way to the supervisor, as the process loop needs it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_channel::Message;
use bulkhead_protocol::device::DeviceEvent;
use bulkhead_runtime::{Helper, Incoming, RuntimeError};

/// A channel on which commands `C` come. [`Helper`] is the one of a sealed process; tests have one of
/// their own.
pub trait Link<C> {
    /// Readable when something came.
    fn fd(&self) -> BorrowedFd<'_>;

    /// The next message; never waits.
    fn next(&self) -> Result<Option<Incoming<C>>, RuntimeError>;

    /// Answers a heartbeat.
    fn alive(&self, number: u64, progress: u64) -> Result<(), RuntimeError>;

    /// Says that the first request is completed.
    fn progressed(&self) -> Result<(), RuntimeError>;

    /// Tells what happened.
    fn event(&self, event: &DeviceEvent) -> Result<(), RuntimeError>;

    /// Leaves a line in the log.
    fn log(&self, line: &str);
}

impl<C: Message> Link<C> for Helper<C, DeviceEvent> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn next(&self) -> Result<Option<Incoming<C>>, RuntimeError> {
        self.try_receive()
    }

    fn alive(&self, number: u64, progress: u64) -> Result<(), RuntimeError> {
        Helper::alive(self, number, progress)
    }

    fn progressed(&self) -> Result<(), RuntimeError> {
        Helper::progressed(self)
    }

    fn event(&self, event: &DeviceEvent) -> Result<(), RuntimeError> {
        Helper::event(self, event)
    }

    fn log(&self, line: &str) {
        bulkhead_runtime::log(line);
    }
}

/// A class's command and its descriptors.
pub(crate) type Command<C> = (C, Vec<OwnedFd>);
