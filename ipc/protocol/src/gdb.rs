//! Supervisor → gdb, and gdb ↔ core on a channel of their own.
//!
//! ```text
//!  gdb                               core
//!   | DebugRequest ------------------> |  any number under way; answered in order
//!   | <-------- DebugReport::Answer -- |
//!   | <------- DebugReport::Stopped -- |  unasked, once after each Resume
//! ```
//!
//! What gdb asks is what its client asks: an allegation. Core checks each number. A closed channel lets
//! the guest go, without breakpoints.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

/// Most bytes of guest memory in one message.
pub const MOST_BYTES: usize = 16 << 10;

/// To a gdb process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GdbCommand {
    /// First and only message. Descriptors: the listening socket, the channel to core.
    Plan {
        /// vCPUs of the machine.
        vcpus: u8,
    },
}

impl Message for GdbCommand {
    fn fd_count(&self) -> usize {
        2
    }
}

/// What a vCPU does from a [`DebugRequest::Resume`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Motion {
    /// It stays stopped.
    Stay,
    /// One instruction.
    Step,
    /// It runs.
    Run,
}

/// What to stop for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Breakpoint {
    /// The instruction at this linear address is about to be executed.
    Code(u64),
    /// An access.
    Data {
        /// Linear address of the first byte, a multiple of `len`.
        address: u64,
        /// Bytes: 1, 2, 4 or 8.
        len: u8,
        /// Reads count too, not only writes.
        reads: bool,
    },
}

/// To core. All but `Stop` and `Detach` are refused while the machine is not stopped for the debugger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DebugRequest {
    /// Stop all vCPUs.
    Stop,
    /// Go on: one motion for each vCPU.
    Resume(Vec<Motion>),
    /// Tell a vCPU's registers.
    Registers {
        /// Number of the vCPU.
        cpu: u8,
    },
    /// Replace a vCPU's registers: the general ones, RIP, RFLAGS, bases of FS and GS, x87 and SSE. The
    /// others stay as they are.
    SetRegisters {
        /// Number of the vCPU.
        cpu: u8,
        /// All of them.
        registers: Box<DebugRegisters>,
    },
    /// Read memory as a vCPU sees it. The answer may be shorter.
    Read {
        /// Number of the vCPU.
        cpu: u8,
        /// Linear address.
        address: u64,
        /// Bytes, at most [`MOST_BYTES`].
        len: u16,
    },
    /// Write memory as a vCPU sees it, all of it or nothing.
    Write {
        /// Number of the vCPU.
        cpu: u8,
        /// Linear address.
        address: u64,
        /// What; at most [`MOST_BYTES`].
        bytes: Vec<u8>,
    },
    /// Stop for this from the next `Resume` on.
    Break(Breakpoint),
    /// Do not any more.
    Unbreak(Breakpoint),
    /// Forget everything and let the guest go.
    Detach,
}

/// From core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DebugReport {
    /// To a request.
    Answer(DebugAnswer),
    /// All vCPUs are stopped, because of one of them.
    Stopped {
        /// Number of the vCPU.
        cpu: u8,
        /// Why.
        why: StopReason,
    },
}

/// To a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DebugAnswer {
    /// Done.
    Done,
    /// A vCPU's registers.
    Registers(Box<DebugRegisters>),
    /// Memory.
    Memory(Vec<u8>),
    /// Not done, and why.
    Refused(String),
}

/// Why the machine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// A step is done.
    Step,
    /// A breakpoint.
    Code,
    /// A watch: the address that was asked for.
    Data(u64),
    /// The guest crashed.
    Crashed,
    /// The guest switched itself off.
    Over,
}

/// Registers as a debugger wants them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebugRegisters {
    /// RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8 to R15.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Selectors: CS, SS, DS, ES, FS, GS.
    pub selectors: [u16; 6],
    /// Bases of FS and GS, and what `swapgs` exchanges the latter with.
    pub bases: [u64; 3],
    /// CR0, CR2, CR3, CR4, CR8.
    pub control: [u64; 5],
    /// EFER.
    pub efer: u64,
    /// x87 and SSE, in the 512 bytes of `FXSAVE`.
    pub fx: Vec<u8>,
}

impl Message for DebugRequest {}
impl Message for DebugReport {}
