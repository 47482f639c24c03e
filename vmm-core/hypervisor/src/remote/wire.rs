//! What crosses between core and an engine's process.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use crate::debug::{DebugStop, GuestDebug};
use crate::ioevent::IoEvent;
use crate::x86_64::VcpuState;

/// A message-signalled interrupt: address and data.
pub type WireMsi = (u64, u32);

/// Words of a log that fit a message: of a gibibyte of RAM.
pub const WORDS_OF_LOG: usize = 4096;

/// On the control channel, from core. Each is answered by one [`Answer`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Deliver an interrupt now.
    Signal(WireMsi),
    /// Where interrupts lead from now on; `None`: nowhere.
    Routes(Vec<(u32, Option<WireMsi>)>),
    /// From now on a signal on the eventfd that comes with this delivers interrupt `gsi`.
    ConnectCall {
        /// A number for this connection that no other has.
        connection: u64,
        /// Which interrupt.
        gsi: u32,
    },
    /// From now on guest writes that match `event` signal the eventfd that comes with this.
    ConnectKick {
        /// A number for this connection that no other has.
        connection: u64,
        /// Which writes.
        event: IoEvent,
    },
    /// A device publishes what it has written there, or does so no more.
    WatchRing {
        /// Guest address and length of its used ring.
        at: (u64, u64),
        /// Whether from now on or no more.
        watch: bool,
    },
    /// From now on there is a device whose writes are not logged.
    ExpectUnloggedWrites,
    /// Undoes a connection.
    Disconnect {
        /// Its number.
        connection: u64,
    },
    /// Core has written to RAM; what was decoded from there is stale.
    CodeChanged {
        /// Guest-physical address of the first byte.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// From now on it is noted which pages of RAM the vCPUs write, or no more.
    LogWrites(bool),
    /// Which pages of a region were: [`WORDS_OF_LOG`] words of the log from `word`. With word 0 the log is taken; the
    /// others tell more of what was taken then.
    WrittenPages {
        /// Number of the region.
        region: u32,
        /// The first word.
        word: u32,
    },
}

/// On the control channel, from the engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done,
    /// Not done, and why.
    Refused(String),
    /// Words of a log, as many as were asked for or up to its end.
    Written(Vec<u64>),
}

/// On a vCPU's channel, from core. Each is answered by one [`Halt`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// What the read that ended the last run has found: it is completed before anything else.
    pub answer: u64,
    /// What is to be done.
    pub order: Order,
}

/// What a vCPU is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Run until something has to be done outside.
    Run,
    /// Tell the state.
    State,
    /// Replace the state.
    SetState(Box<VcpuState>),
    /// Replace the registers that a debugger may write.
    SetRegisters(Box<VcpuState>),
    /// What to stop for from now on.
    SetGuestDebug(Box<GuestDebug>),
    /// Excuse a pause to the guest.
    ExcusePause,
}

/// On a vCPU's channel, from the engine: why it stopped, or the answer to another order. Accesses have
/// 1 to 8 bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Halt {
    /// Done, and nothing to tell.
    Done,
    /// The state.
    State(Box<VcpuState>),
    /// A read from a port.
    PortRead {
        /// The port.
        port: u16,
        /// Bytes.
        width: u8,
    },
    /// A write to a port.
    PortWrite {
        /// The port.
        port: u16,
        /// Bytes.
        width: u8,
        /// What, little-endian.
        value: u64,
    },
    /// A read where no RAM is.
    MemoryRead {
        /// Where.
        address: u64,
        /// Bytes.
        width: u8,
    },
    /// A write where no RAM is.
    MemoryWrite {
        /// Where.
        address: u64,
        /// Bytes.
        width: u8,
        /// What, little-endian.
        value: u64,
    },
    /// A level-triggered interrupt ended.
    Eoi(u8),
    /// What a debugger waits for.
    Debug(DebugStop),
    /// The last vCPU that ran halted for good.
    Hlt,
    /// A triple fault.
    Shutdown,
    /// A kick.
    Interrupted,
    /// The engine cannot go on.
    Failed(String),
}

impl Message for Request {
    fn fd_count(&self) -> usize {
        match self {
            Self::ConnectCall { .. } | Self::ConnectKick { .. } => 1,
            _ => 0,
        }
    }
}

impl Message for Answer {}
impl Message for Turn {}
impl Message for Halt {}
