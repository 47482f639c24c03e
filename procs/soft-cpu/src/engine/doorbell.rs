//! Guest writes that ring a doorbell instead of leaving the processor.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{PoisonError, RwLock};

use bulkhead_hypervisor::{DataMatch, EngineError, IoAddress, IoEvent};
use bulkhead_sys::eventfd::Doorbell;

/// A machine's doorbells.
#[derive(Debug, Default)]
pub(crate) struct Doorbells(RwLock<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    event: IoEvent,
    /// The number that the descriptor was given under, by which it is taken away again.
    number: RawFd,
    bell: Doorbell,
}

impl Doorbells {
    pub(super) fn connect(&self, event: IoEvent, kick: BorrowedFd<'_>) -> Result<(), EngineError> {
        let copy = kick.try_clone_to_owned();
        let copy =
            copy.map_err(|source| EngineError::Host { action: "connect a doorbell", source })?;
        let entry = Entry { event, number: kick.as_raw_fd(), bell: Doorbell::from_fd(copy) };
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(())
    }

    pub(super) fn disconnect(&self, event: IoEvent, kick: BorrowedFd<'_>) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let number = kick.as_raw_fd();
        entries.retain(|entry| entry.event != event || entry.number != number);
    }

    /// Rings what a write matches; `false`: nothing.
    pub(crate) fn ring(&self, address: IoAddress, width: u8, value: u64) -> bool {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut rung = false;
        for entry in entries.iter().filter(|entry| entry.event.address == address) {
            let matches = match entry.event.data {
                DataMatch::Any => true,
                DataMatch::U8(wanted) => width == 1 && value == u64::from(wanted),
                DataMatch::U16(wanted) => width == 2 && value == u64::from(wanted),
                DataMatch::U32(wanted) => width == 4 && value == u64::from(wanted),
                DataMatch::U64(wanted) => width == 8 && value == wanted,
            };
            if matches {
                entry.bell.ring_if_quiet();
                rung = true;
            }
        }
        rung
    }
}
