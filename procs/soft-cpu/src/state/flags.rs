//! The flags.
//!
//! The six arithmetic flags are kept as the host's own instructions deliver them, by `lahf` (SF, ZF, AF,
//! PF, CF in one byte) and `seto` (OF in the other): two cheap instructions behind any operation, exact
//! also where the manual calls a flag undefined. All other flags live in [`Cpu::system_flags`]
//! in their architectural places; reading RFLAGS joins the two.
//!
//! [`Cpu::system_flags`]: crate::Cpu::system_flags

/// Bits of RFLAGS.
pub mod rflags {
    /// Carry.
    pub const CF: u64 = 1;
    /// Always one.
    pub const FIXED: u64 = 1 << 1;
    /// Parity of the low byte.
    pub const PF: u64 = 1 << 2;
    /// Carry out of the low four bits.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Single-step.
    pub const TF: u64 = 1 << 8;
    /// Interrupts are taken.
    pub const IF: u64 = 1 << 9;
    /// String instructions go down.
    pub const DF: u64 = 1 << 10;
    /// Overflow.
    pub const OF: u64 = 1 << 11;
    /// Who may do port I/O (two bits).
    pub const IOPL: u64 = 3 << 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Instruction breakpoints are ignored once.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Alignment check; under SMAP, leave to touch user pages.
    pub const AC: u64 = 1 << 18;
    /// Virtual interrupt flag.
    pub const VIF: u64 = 1 << 19;
    /// Virtual interrupt pending.
    pub const VIP: u64 = 1 << 20;
    /// Can be changed, so there is CPUID.
    pub const ID: u64 = 1 << 21;
    /// The six that arithmetic writes.
    pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
}

/// The arithmetic flags: `lahf`'s byte in bits 8–15, `seto`'s in bits 0–7, as the host leaves them in AX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Flags(pub u16);

/// The sixteen conditions of jumps, sets and moves, in the processor's numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the manual's own suffixes")]
pub enum Condition {
    O,
    No,
    B,
    Ae,
    E,
    Ne,
    Be,
    A,
    S,
    Ns,
    P,
    Np,
    L,
    Ge,
    Le,
    G,
}

impl Flags {
    const LAHF: u16 = 8;

    /// As bits of RFLAGS.
    #[inline(always)]
    pub fn to_rflags(self) -> u64 {
        let low = u64::from(self.0 >> Self::LAHF) & (rflags::ARITHMETIC & 0xff);
        low | u64::from(self.0 & 1) << 11
    }

    /// From bits of RFLAGS; others than the arithmetic flags are ignored.
    #[inline(always)]
    pub fn from_rflags(bits: u64) -> Self {
        let low = (bits & (rflags::ARITHMETIC & 0xff) | rflags::FIXED) as u16;
        Self(low << Self::LAHF | (bits >> 11) as u16 & 1)
    }

    /// Carry.
    #[inline(always)]
    pub fn cf(self) -> bool {
        self.0 & 1 << 8 != 0
    }

    /// Zero.
    #[inline(always)]
    pub fn zf(self) -> bool {
        self.0 & 1 << 14 != 0
    }

    /// Overflow.
    #[inline(always)]
    pub fn of(self) -> bool {
        self.0 & 1 != 0
    }

    /// Sign.
    #[inline(always)]
    pub fn sf(self) -> bool {
        self.0 & 1 << 15 != 0
    }

    /// Parity.
    #[inline(always)]
    pub fn pf(self) -> bool {
        self.0 & 1 << 10 != 0
    }

    /// Changes carry only.
    #[inline(always)]
    pub fn set_cf(&mut self, carry: bool) {
        self.0 = self.0 & !(1 << 8) | u16::from(carry) << 8;
    }

    /// Changes overflow only.
    #[inline(always)]
    pub fn set_of(&mut self, overflow: bool) {
        self.0 = self.0 & !1 | u16::from(overflow);
    }

    /// Changes zero only.
    #[inline(always)]
    pub fn set_zf(&mut self, zero: bool) {
        self.0 = self.0 & !(1 << 14) | u16::from(zero) << 14;
    }

    /// Whether condition number `CONDITION` (see [`Condition`]) holds.
    #[inline(always)]
    pub fn holds<const CONDITION: u8>(self) -> bool {
        let base = match CONDITION >> 1 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.0 & (1 << 8 | 1 << 14) != 0,
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        base != (CONDITION & 1 == 1)
    }
}
