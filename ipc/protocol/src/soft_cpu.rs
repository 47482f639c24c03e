//! Supervisor ↔ soft-cpu. What core says to it is `bulkhead_hypervisor::remote::wire`.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

use crate::crash::Word;

/// Longest x86 instruction in bytes.
pub const LONGEST_INSTRUCTION: usize = 15;

/// To a soft-cpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SoftCpuCommand {
    /// First message. Descriptors: the RAM memfd, the control channel to core, the log of written pages (a
    /// memfd with a bit for each page up to the end of RAM), then for each vCPU the channel of its turns
    /// and the eventfd of its kicks, then the trace stream if `trace`.
    Plan {
        /// vCPUs: as many as its first argument said.
        vcpus: u8,
        /// Bytes of guest memory; the memfd has as many.
        memory: u64,
        /// What is executed is to be told on a stream.
        trace: bool,
    },
    /// Tell the counters: answered by [`SoftCpuEvent::Counted`].
    Count,
}

/// From a soft-cpu.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SoftCpuEvent {
    /// This host's processor lacks an instruction set, by name: no guest can be executed.
    Refused {
        /// Which.
        missing: String,
    },
    /// What the vCPUs have counted.
    Counted(Counters),
    /// The guest has instructions that this engine lacks: they raise #UD in it. Told now and then.
    Unknown(Unknown),
}

/// What all vCPUs together have counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Instructions executed.
    pub instructions: u64,
    /// Blocks of code decoded.
    pub blocks: u64,
    /// Translations of addresses filled in.
    pub tlb_fills: u64,
    /// Times that translations were dropped: all, or those of an address space.
    pub flushes: u64,
    /// Accesses to memory that took the slow way: no translation yet, devices, code.
    pub slow_calls: u64,
    /// Interrupts taken.
    pub interrupts: u64,
    /// Exceptions raised.
    pub exceptions: u64,
    /// Instructions decoded that this engine lacks.
    pub unknown: u64,
}

impl Counters {
    /// Each with its name, in the order of the fields.
    pub fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("instructions", self.instructions),
            ("blocks", self.blocks),
            ("TLB fills", self.tlb_fills),
            ("flushes", self.flushes),
            ("slow calls", self.slow_calls),
            ("interrupts", self.interrupts),
            ("exceptions", self.exceptions),
            ("unknown", self.unknown),
        ]
    }
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.instructions += other.instructions;
        self.blocks += other.blocks;
        self.tlb_fills += other.tlb_fills;
        self.flushes += other.flushes;
        self.slow_calls += other.slow_calls;
        self.interrupts += other.interrupts;
        self.exceptions += other.exceptions;
        self.unknown += other.unknown;
    }
}

/// The last instruction that the engine lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// How many were decoded so far.
    pub seen: u64,
    /// Where the last one is.
    pub rip: Word,
    /// Its bytes, at most [`LONGEST_INSTRUCTION`].
    pub bytes: Vec<u8>,
}

impl Message for SoftCpuCommand {
    fn fd_count(&self) -> usize {
        match self {
            Self::Plan { vcpus, trace, .. } => 3 + 2 * usize::from(*vcpus) + usize::from(*trace),
            Self::Count => 0,
        }
    }
}

impl Message for SoftCpuEvent {}
