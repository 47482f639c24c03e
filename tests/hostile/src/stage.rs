//! A device process on a stage: the kit that all of them are built from, a device that takes every
//! request it is given, and a frontend whose words were written beforehand.
//!
//! Everything runs in the calling thread. The process hears all that the frontend says, then that it
//! hung up, and then that the supervisor wants it to stop: it must have drained its queues by itself.

mod supervisor;
mod taker;

use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_backend_kit::{Crew, Identity, InflightTable, Process, ProcessError};
use bulkhead_protocol::device::{DeviceEvent, QueuePlan};
use bulkhead_protocol::inflight::table_size;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::mapping::{Rights, SharedMapping};
use bulkhead_sys::memfd::create_sealed;
use bulkhead_sys::poller::Poller;
use bulkhead_sys::seqpacket::send;

use supervisor::{Supervisor, Usher};
use taker::Taker;

/// What the device has; a table is made for it.
pub const QUEUES: QueuePlan = QueuePlan { queues: 2, queue_size: 128, own_fault: false };
/// Bytes of guest memory.
pub const RAM: u64 = 128 << 10;
/// What the frontend calls the first of them.
pub const USER: u64 = 0x7000_0000;

/// What goes along with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prop {
    /// Guest memory.
    Memory,
    /// The in-flight table.
    Table,
    /// An eventfd.
    Bell,
    /// A socket, where none belongs.
    Socket,
}

/// A message of the frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Header and body, or whatever it says instead.
    pub bytes: Vec<u8>,
    /// Descriptors.
    pub props: Vec<Prop>,
}

/// What a play came to.
#[derive(Debug)]
pub struct Curtain {
    /// Requests that the device was given.
    pub taken: u64,
    /// What the process told the supervisor.
    pub events: Vec<DeviceEvent>,
    /// How it ended.
    pub outcome: Result<(), ProcessError>,
}

/// What there is before the first word.
#[derive(Debug)]
pub struct Stage {
    memory: OwnedFd,
    ram: SharedMapping,
    table: OwnedFd,
    socket: OwnedFd,
    bell: Doorbell,
}

impl Default for Stage {
    fn default() -> Self {
        let len = table_size(QUEUES.queues, QUEUES.queue_size);
        let memory = create_sealed("guest", RAM).expect("a memory object");
        let ram = SharedMapping::map(&memory, RAM as usize, Rights::ReadWrite).expect("a mapping");
        let table = create_sealed("inflight", len).expect("a memory object");
        let (socket, _) = bulkhead_sys::seqpacket::pair().expect("a socket pair");
        let bell = Doorbell::new().expect("an eventfd");
        Self { memory, ram, table, socket, bell }
    }
}

impl Stage {
    /// Leaves bytes in guest memory, as far as they fit.
    pub fn write_memory(&self, at: u64, bytes: &[u8]) {
        let _outside = self.ram.copy_out(at as usize, bytes);
    }

    /// Leaves bytes in the in-flight table, as a predecessor might.
    pub fn write_table(&self, at: usize, bytes: &[u8]) {
        let len = table_size(QUEUES.queues, QUEUES.queue_size) as usize;
        let mapping = SharedMapping::map(&self.table, len, Rights::ReadWrite).expect("a mapping");
        let _outside = mapping.copy_out(at, bytes);
    }

    fn prop(&self, prop: Prop) -> BorrowedFd<'_> {
        match prop {
            Prop::Memory => self.memory.as_fd(),
            Prop::Table => self.table.as_fd(),
            Prop::Bell => self.bell.as_fd(),
            Prop::Socket => self.socket.as_fd(),
        }
    }

    /// Lets the process serve a frontend that says these lines and hangs up.
    pub fn play(&self, lines: &[Line]) -> Curtain {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        for line in lines {
            let props: Vec<_> = line.props.iter().map(|prop| self.prop(*prop)).collect();
            if line.bytes.is_empty() || send(ours.as_fd(), &line.bytes, &props).is_err() {
                break;
            }
        }
        // Replies still find a reader's socket.
        ours.shutdown(Shutdown::Write).expect("a connected socket");
        let supervisor = Supervisor::new(theirs.into());
        let events = supervisor.events.clone();
        let taken = Arc::new(AtomicU64::new(0));
        let taker = Taker::new(taken.clone());
        let table = self.table.try_clone().expect("a descriptor");
        let table = InflightTable::map(QUEUES, table).expect("a table of the plan's length");
        let identity = Identity { features: 0, config: vec![7; 60] };
        let crew = Crew::gather(0).expect("no threads");
        let poller = Poller::new().expect("epoll");
        let process = Process::new(supervisor, Usher, identity, table, vec![taker], crew, poller);
        let outcome = process.and_then(Process::run);
        let events = events.take();
        Curtain { taken: taken.load(Ordering::Relaxed), events, outcome }
    }
}
