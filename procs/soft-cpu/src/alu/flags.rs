//! The six arithmetic flags, as the host's LAHF and SETO leave them in AX.
//!
//! Every flag of the guest is computed by the host's own instruction (`alu/*`), and LAHF; SETO AL is the cheapest exact way to
//! get all six out (two micro-operations, no stack). So the machine keeps them in that very form: AH holds SF ZF AF PF CF
//! where RFLAGS has them in its low byte, AL is OF. Conditions test bits of this word; RFLAGS is put together only where
//! the guest looks at it (pushf, interrupts, exits). Not here: IF, TF, DF and the rest, which belong to the machine state.
//!
//! Why not lazy flags (operands and result kept, flags on demand): two or three stores instead of one, an operation to
//! dispatch on when a condition is tested, and a formula for each flag to get wrong. Where flags are dead they are not
//! computed at all, and where a compare is followed by a jump the pair is one operation; neither needs laziness.

/// The six arithmetic flags. `0bSZ0A_0P1C_0000_000O`: bit 9 is what RFLAGS calls bit 1 and carries nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Flags(u16);

impl Flags {
    /// Carry.
    pub const CF: u16 = 1 << 8;
    /// Even parity of the low byte.
    pub const PF: u16 = 1 << 10;
    /// Carry out of bit 3.
    pub const AF: u16 = 1 << 12;
    /// Result zero.
    pub const ZF: u16 = 1 << 14;
    /// Result negative.
    pub const SF: u16 = 1 << 15;
    /// Signed overflow.
    pub const OF: u16 = 1;
    /// All six.
    pub const ALL: u16 = Self::CF | Self::PF | Self::AF | Self::ZF | Self::SF | Self::OF;
    /// Where RFLAGS keeps the six.
    pub const IN_RFLAGS: u64 = 0x8d5;

    /// From AX after LAHF; SETO AL.
    #[inline(always)]
    pub const fn from_ax(ax: u16) -> Self {
        Self(ax)
    }

    /// As AX for ADD AL, 127; SAHF: AL is 0 or 1 in every value of this type.
    #[inline(always)]
    pub const fn ax(self) -> u16 {
        self.0
    }

    /// The six out of an RFLAGS image; other bits are ignored.
    #[inline(always)]
    pub const fn from_rflags(rflags: u64) -> Self {
        Self(((rflags & 0xd5) << 8) as u16 | (rflags >> 11 & 1) as u16)
    }

    /// The six where RFLAGS has them; all other bits zero.
    #[inline(always)]
    pub const fn to_rflags(self) -> u64 {
        (self.0 >> 8 & 0xd5) as u64 | ((self.0 & 1) as u64) << 11
    }

    /// Is any of the flags in `mask` (of this type's constants) set?
    #[inline(always)]
    pub const fn any(self, mask: u16) -> bool {
        self.0 & mask != 0
    }

    /// CF as a number, for what adds it.
    #[inline(always)]
    pub const fn carry(self) -> u16 {
        self.0 >> 8 & 1
    }

    /// The same flags with those in `mask` all set or all clear.
    #[inline(always)]
    pub const fn with(self, mask: u16, set: bool) -> Self {
        if set { Self(self.0 | mask) } else { Self(self.0 & !mask) }
    }

    /// `self`, with the flags in `mask` taken from `other`.
    #[inline(always)]
    pub const fn with_from(self, mask: u16, other: Self) -> Self {
        Self(self.0 & !mask | other.0 & mask)
    }

    /// Does condition `cc` (the low four bits of Jcc, SETcc and CMOVcc opcodes) hold?
    #[inline(always)]
    pub const fn holds(self, cc: u8) -> bool {
        let less = (self.0 >> 15 ^ self.0) & 1 != 0;
        let met = match cc >> 1 & 7 {
            0 => self.any(Self::OF),
            1 => self.any(Self::CF),
            2 => self.any(Self::ZF),
            3 => self.any(Self::CF | Self::ZF),
            4 => self.any(Self::SF),
            5 => self.any(Self::PF),
            6 => less,
            _ => less || self.any(Self::ZF),
        };
        met != (cc & 1 != 0)
    }
}

impl core::fmt::Debug for Flags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (mask, name) in [
            (Self::OF, 'O'),
            (Self::SF, 'S'),
            (Self::ZF, 'Z'),
            (Self::AF, 'A'),
            (Self::PF, 'P'),
            (Self::CF, 'C'),
        ] {
            write!(f, "{}", if self.any(mask) { name } else { '-' })?;
        }
        Ok(())
    }
}
