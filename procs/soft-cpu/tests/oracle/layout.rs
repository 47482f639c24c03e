//! Where code and data lie: at the same linear addresses natively and in the guest.

use iced_x86::Register;

use crate::random::Random;

/// The page that the instructions are placed on.
pub const CODE: u64 = 0x1000_0000;
/// Bytes for one instruction and the native way out behind it.
pub const SLOT: u64 = 32;
/// Instructions that fit the page.
pub const SLOTS: usize = 4096 / SLOT as usize;
/// The same for 32-bit code.
pub const CODE32: u64 = 0x1000_1000;
/// The same for 16-bit code.
pub const CODE16: u64 = 0x1000_3000;
/// Native ways between other code and 64-bit code.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bits {
    /// 16-bit protected mode, each segment with a base of its own.
    Bits16,
    /// Compatibility mode.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl Bits {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bits16, Self::Bits32, Self::Bits64];

    /// As the decoder wants it.
    pub fn number(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }

    /// Half of what is tried is 64-bit code.
    pub fn random(random: &mut Random) -> Self {
        Self::ALL[random.below(4).min(2) as usize]
    }
}

/// A segment of 16-bit code: linear base, last byte.
#[derive(Debug, Clone, Copy)]
pub struct Segment16 {
    pub selector: u16,
    pub base: u64,
    pub limit: u32,
    pub is_code: bool,
}

/// In the local descriptor table, by index. Each reaches the data at another place; that of ES ends before the data does.
pub const SEGMENTS_16: [Segment16; 4] = [
    Segment16 { selector: 0x07, base: CODE, limit: 0xffff, is_code: true },
    Segment16 { selector: 0x0f, base: DATA - 0x4000, limit: 0xffff, is_code: false },
    Segment16 { selector: 0x17, base: DATA - 0x8000, limit: 0x97ff, is_code: false },
    Segment16 { selector: 0x1f, base: DATA - 0xc000, limit: 0xffff, is_code: false },
];

/// The segment of 16-bit code that a register holds; DS unless it is another.
pub fn segment_16(register: Register) -> Segment16 {
    match register {
        Register::CS => SEGMENTS_16[0],
        Register::ES => SEGMENTS_16[2],
        Register::SS => SEGMENTS_16[3],
        _ => SEGMENTS_16[1],
    }
}

/// The base that this segment register has.
pub fn base(bits: Bits, register: Register) -> u64 {
    if bits == Bits::Bits16 { segment_16(register).base } else { 0 }
}

/// The page that code of these bits is placed on.
pub fn page(bits: Bits) -> u64 {
    match bits {
        Bits::Bits16 => CODE16,
        Bits::Bits32 => CODE32,
        Bits::Bits64 => CODE,
    }
}

/// The instruction pointer there.
pub fn ip(bits: Bits, at: u64) -> u64 {
    at - base(bits, Register::CS)
}

/// Where a slot's instruction is.
pub fn slot(bits: Bits, number: usize) -> u64 {
    page(bits) + number as u64 * SLOT
}

/// Where a run's first instruction is.
pub fn run(bits: Bits, number: usize) -> u64 {
    page(bits) + number as u64 * RUN
}
