//! What vCPU threads tell the event loop.
//!
//! A guest can make none of these again and again: the first port write is told once, and each of the
//! others comes with a shut gate, after which a vCPU answers no further exit. So the queue is short.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bulkhead_hypervisor::DebugStop;
use bulkhead_machine::Request;
use bulkhead_sys::eventfd::Doorbell;

/// The notice.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// The guest's first port write.
    GuestStarted,
    /// The guest wants to be switched off or reset.
    Asked(Request),
    /// A vCPU stopped for the debugger.
    Debugged {
        /// Which one.
        cpu: u8,
        /// Why.
        stop: DebugStop,
    },
    /// A vCPU cannot go on.
    Crashed {
        /// Which one.
        cpu: u8,
        /// Why.
        reason: String,
    },
}

/// The vCPU threads' end.
#[derive(Clone)]
pub struct Notices {
    queue: Sender<Notice>,
    bell: Arc<Doorbell>,
}

impl Notices {
    /// Both ends. `bell` rings when there is something to take.
    pub fn new(bell: Arc<Doorbell>) -> (Self, Receiver<Notice>) {
        let (queue, taken) = channel();
        (Self { queue, bell }, taken)
    }

    /// Tells the event loop.
    pub fn tell(&self, notice: Notice) {
        let _ = self.queue.send(notice);
        self.bell.ring();
    }
}
