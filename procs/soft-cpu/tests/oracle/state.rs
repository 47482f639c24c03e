//! What is compared: the registers of one moment, and what happened.

/// All registers that user code sees.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct State {
    /// rax rcx rdx rbx rsp rbp rsi rdi r8…r15.
    pub registers: [u64; 16],
    /// Arithmetic flags and DF.
    pub flags: u64,
    /// Next instruction.
    pub rip: u64,
    pub padding: [u64; 6],
    /// x87, MMX and SSE in FXSAVE's layout.
    pub fx: [u8; 512],
}

/// Flags that are set and compared.
pub const FLAGS: u64 = 0x8d5 | 0x400;

/// An exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub vector: u64,
    pub code: u64,
    /// Of page faults.
    pub address: u64,
}

/// A run's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub state: State,
    pub fault: Option<Fault>,
}
