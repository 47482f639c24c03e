//! SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD.
//!
//! All take the flags before: a count of zero changes none of them, rotations keep four, RCL and RCR turn CF through the
//! operand. The count is CL or an immediate; the host masks it to 5 bits (6 for 64-bit operands) as the guest's CPU would.

use crate::state::Flags;
use core::arch::asm;

/// Shifts and rotations of one operand.
pub trait Shift: Sized {
    /// SHL (and SAL, which is the same).
    fn shl(self, count: u8, before: Flags) -> (Self, Flags);
    /// SHR.
    fn shr(self, count: u8, before: Flags) -> (Self, Flags);
    /// SAR.
    fn sar(self, count: u8, before: Flags) -> (Self, Flags);
    /// ROL.
    fn rol(self, count: u8, before: Flags) -> (Self, Flags);
    /// ROR.
    fn ror(self, count: u8, before: Flags) -> (Self, Flags);
    /// RCL.
    fn rcl(self, count: u8, before: Flags) -> (Self, Flags);
    /// RCR.
    fn rcr(self, count: u8, before: Flags) -> (Self, Flags);
    /// SHL by a count that is not zero after masking: no flag survives.
    fn shl_by(self, count: u8) -> (Self, Flags);
    /// SHR likewise.
    fn shr_by(self, count: u8) -> (Self, Flags);
    /// SAR likewise.
    fn sar_by(self, count: u8) -> (Self, Flags);
}

/// Shifts that take their new bits from a second operand. There is no 8-bit form; 16-bit operands with a count above 16 are
/// undefined, and are what the host makes of them.
pub trait DoubleShift: Sized {
    /// SHLD.
    fn shld(self, filler: Self, count: u8, before: Flags) -> (Self, Flags);
    /// SHRD.
    fn shrd(self, filler: Self, count: u8, before: Flags) -> (Self, Flags);
}

macro_rules! shift_one {
    ($name:ident, $mnemonic:literal, $class:ident, $size:literal) => {
        #[inline(always)]
        fn $name(self, count: u8, before: Flags) -> (Self, Flags) {
            let mut value = self;
            let mut flags = before.0;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!("add al, 127", "sahf", concat!($mnemonic, " {a", $size, "}, cl"), "lahf", "seto al",
                    a = inout($class) value, in("cl") count, inout("ax") flags, options(pure, nomem, nostack));
            }
            (value, Flags(flags))
        }
    };
}

macro_rules! shift_by {
    ($name:ident, $mnemonic:literal, $class:ident, $size:literal) => {
        #[inline(always)]
        fn $name(self, count: u8) -> (Self, Flags) {
            let mut value = self;
            let after: u16;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!(concat!($mnemonic, " {a", $size, "}, cl"), "lahf", "seto al",
                    a = inout($class) value, in("cl") count, out("ax") after, options(pure, nomem, nostack));
            }
            (value, Flags(after))
        }
    };
}

macro_rules! shift_two {
    ($name:ident, $mnemonic:literal, $size:literal) => {
        #[inline(always)]
        fn $name(self, filler: Self, count: u8, before: Flags) -> (Self, Flags) {
            let mut value = self;
            let mut flags = before.0;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!("add al, 127", "sahf", concat!($mnemonic, " {a", $size, "}, {b", $size, "}, cl"), "lahf", "seto al",
                    a = inout(reg) value, b = in(reg) filler, in("cl") count, inout("ax") flags, options(pure, nomem, nostack));
            }
            (value, Flags(flags))
        }
    };
}

macro_rules! shifts {
    ($word:ty, $class:ident, $size:literal) => {
        impl Shift for $word {
            shift_one!(shl, "shl", $class, $size);
            shift_one!(shr, "shr", $class, $size);
            shift_one!(sar, "sar", $class, $size);
            shift_one!(rol, "rol", $class, $size);
            shift_one!(ror, "ror", $class, $size);
            shift_one!(rcl, "rcl", $class, $size);
            shift_one!(rcr, "rcr", $class, $size);
            shift_by!(shl_by, "shl", $class, $size);
            shift_by!(shr_by, "shr", $class, $size);
            shift_by!(sar_by, "sar", $class, $size);
        }
    };
}

macro_rules! double_shifts {
    ($word:ty, $size:literal) => {
        impl DoubleShift for $word {
            shift_two!(shld, "shld", $size);
            shift_two!(shrd, "shrd", $size);
        }
    };
}

shifts!(u8, reg_byte, "");
shifts!(u16, reg, ":x");
shifts!(u32, reg, ":e");
shifts!(u64, reg, ":r");
double_shifts!(u16, ":x");
double_shifts!(u32, ":e");
double_shifts!(u64, ":r");
