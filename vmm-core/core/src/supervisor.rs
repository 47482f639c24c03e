//! Core's end of the channel to the supervisor.
//!
//! Heartbeats are answered even while the event loop is busy with something that takes long (loading a
//! kernel): it calls [`Supervisor::breathe`] now and then. Commands that come meanwhile wait their turn.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use bulkhead_protocol::core::{CoreCommand, CoreEvent};
use bulkhead_runtime::{Helper, Incoming, RuntimeError};

/// The channel, and what was taken from it too early.
pub struct Supervisor {
    helper: Helper<CoreCommand, CoreEvent>,
    /// In order, an error last.
    waiting: RefCell<VecDeque<Result<Incoming<CoreCommand>, RuntimeError>>>,
}

impl Supervisor {
    /// Nothing is waiting.
    pub fn new(helper: Helper<CoreCommand, CoreEvent>) -> Self {
        Self { helper, waiting: RefCell::default() }
    }

    /// Says that the plan is live.
    pub fn ready(&self) -> Result<(), RuntimeError> {
        self.helper.ready()
    }

    /// Tells an event.
    pub fn event(&self, event: &CoreEvent) -> Result<(), RuntimeError> {
        self.helper.event(event)
    }

    /// Answers a heartbeat.
    pub fn alive(&self, number: u64, progress: u64) -> Result<(), RuntimeError> {
        self.helper.alive(number, progress)
    }

    /// Takes the next message if one is there.
    pub fn take(&self) -> Result<Option<Incoming<CoreCommand>>, RuntimeError> {
        match self.waiting.borrow_mut().pop_front() {
            Some(waiting) => waiting.map(Some),
            None => self.helper.try_receive(),
        }
    }

    /// Whether something was taken from the channel that [`Supervisor::take`] has not handed out.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Answers heartbeats now; everything else waits.
    pub fn breathe(&self, progress: u64) {
        loop {
            let taken = match self.helper.try_receive() {
                Ok(None) => return,
                Ok(Some(Incoming::Heartbeat(number))) => match self.alive(number, progress) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Ok(Some(other)) => Ok(other),
                Err(error) => Err(error),
            };
            let is_over = taken.is_err();
            self.waiting.borrow_mut().push_back(taken);
            if is_over {
                return;
            }
        }
    }
}

impl AsFd for Supervisor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.helper.as_fd()
    }
}
