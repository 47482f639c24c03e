//! Why an instruction did not complete.
//!
//! The reason is recorded in [`Cpu::stop`](crate::Cpu::stop); what travels through the handlers is
//! [`Raised`], which is empty, so that a fallible load still returns in registers.

/// An instruction cannot complete; the reason is in `Cpu::stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised;

/// Vectors that the processor itself raises.
#[allow(missing_docs, reason = "the manual's own mnemonics")]
pub mod vector {
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const OF: u8 = 4;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const NM: u8 = 7;
    pub const DF: u8 = 8;
    pub const TS: u8 = 10;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const XM: u8 = 19;
}

/// An exception that is to be delivered to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Its vector.
    pub vector: u8,
    /// Its error code, if it has one.
    pub code: Option<u32>,
    /// For page faults: the address.
    pub address: u64,
}

impl Exception {
    /// One without an error code.
    pub const fn plain(vector: u8) -> Self {
        Self { vector, code: None, address: 0 }
    }

    /// One with an error code.
    pub const fn with_code(vector: u8, code: u32) -> Self {
        Self { vector, code: Some(code), address: 0 }
    }

    /// General protection.
    pub const fn gp(code: u32) -> Self {
        Self::with_code(vector::GP, code)
    }

    /// Invalid opcode.
    pub const UD: Self = Self::plain(vector::UD);
    /// Divide error.
    pub const DE: Self = Self::plain(vector::DE);
    /// x87, MMX or SSE state is not available.
    pub const NM: Self = Self::plain(vector::NM);
    /// An unmasked x87 exception is pending.
    pub const MF: Self = Self::plain(vector::MF);
    /// An unmasked SSE exception happened.
    pub const XM: Self = Self::plain(vector::XM);
}

/// Why the handlers came back to the run loop without a next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Nothing special: find the next block by RIP.
    Lookup,
    /// A fault; RIP is at the faulting instruction.
    Fault(Exception),
    /// The instruction at RIP has to be started again alone, because it is about to write to code.
    Alone,
    /// The instruction at RIP has to be started again while no other vCPU executes.
    Exclusive,
    /// The instruction at RIP needs the outside (see [`crate::cpu::Cpu::outside`]); it is started again
    /// with the answer.
    Outside,
    /// A debugger's breakpoint is at RIP; the instruction there is not done.
    Breakpoint,
    /// HLT was executed; RIP is behind it.
    Halt,
    /// The guest waits for another vCPU; RIP is behind a `pause`.
    Spin,
    /// Interrupts may be open now: the run loop looks whether one waits.
    Window,
    /// A software interrupt (`int n`, `int3`, `into`); RIP is at it.
    Software(u8),
    /// A trap to be delivered after an instruction; RIP is behind it.
    Trap(Exception),
}
