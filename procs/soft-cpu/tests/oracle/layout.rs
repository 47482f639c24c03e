//! Where code and data lie: at the same linear addresses natively and in the guest.

/// The page that the instructions are placed on.
pub const CODE: u64 = 0x1000_0000;
/// Bytes for one instruction and the native way out behind it.
pub const SLOT: u64 = 32;
/// Instructions that fit the page.
pub const SLOTS: usize = 4096 / SLOT as usize;
/// The same for 32-bit code.
pub const CODE32: u64 = 0x1000_1000;
/// Native ways between 32-bit and 64-bit code.
pub const GATES: u64 = 0x1000_2000;
/// Native state block.
pub const STATE: u64 = 0x1000_4000;
/// Two pages that may be written, nothing before them.
pub const DATA: u64 = 0x2000_0000;
/// Bytes of them.
pub const DATA_LEN: u64 = 0x2000;
/// Behind them nothing for one page, then a page that may only be read, then nothing.
pub const READ_ONLY: u64 = DATA + DATA_LEN + 0x1000;

/// Bytes for a run of instructions.
pub const RUN: u64 = 256;
/// Runs that fit the page.
pub const RUNS: usize = 4096 / RUN as usize;

/// Bits of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// Compatibility mode.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

/// The page that code of these bits is placed on.
pub fn page(bits: Bits) -> u64 {
    if bits == Bits::Bits64 { CODE } else { CODE32 }
}

/// Where a slot's instruction is.
pub fn slot(bits: Bits, number: usize) -> u64 {
    page(bits) + number as u64 * SLOT
}

/// Where a run's first instruction is.
pub fn run(bits: Bits, number: usize) -> u64 {
    page(bits) + number as u64 * RUN
}
