//! ADD, ADC, SUB, SBB, CMP, AND, OR, XOR, TEST, INC, DEC, NEG.
//!
//! Called by the handlers and by compare-and-branch fusion. Instructions that read or keep flags take the flags before;
//! the others do not, and what they leave undefined (AF after AND) is what the host leaves.

use crate::state::Flags;
use core::arch::asm;

/// The instructions with one or two operands of one width.
pub trait Arithmetic: Sized {
    /// ADD.
    fn add(self, other: Self) -> (Self, Flags);
    /// ADC: CF of `before` is added.
    fn adc(self, other: Self, before: Flags) -> (Self, Flags);
    /// SUB, and CMP where the value is dropped.
    fn sub(self, other: Self) -> (Self, Flags);
    /// SBB: CF of `before` is subtracted.
    fn sbb(self, other: Self, before: Flags) -> (Self, Flags);
    /// AND, and TEST where the value is dropped.
    fn and(self, other: Self) -> (Self, Flags);
    /// OR.
    fn or(self, other: Self) -> (Self, Flags);
    /// XOR.
    fn xor(self, other: Self) -> (Self, Flags);
    /// INC: keeps CF.
    fn inc(self, before: Flags) -> (Self, Flags);
    /// DEC: keeps CF.
    fn dec(self, before: Flags) -> (Self, Flags);
    /// NEG.
    fn neg(self) -> (Self, Flags);
}

macro_rules! two {
    ($name:ident, $mnemonic:literal, $class:ident, $size:literal) => {
        #[inline(always)]
        fn $name(self, other: Self) -> (Self, Flags) {
            let mut value = self;
            let after: u16;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!(concat!($mnemonic, " {a", $size, "}, {b", $size, "}"), "lahf", "seto al",
                    a = inout($class) value, b = in($class) other, out("ax") after, options(pure, nomem, nostack));
            }
            (value, Flags(after))
        }
    };
}

macro_rules! two_and_flags {
    ($name:ident, $mnemonic:literal, $class:ident, $size:literal) => {
        #[inline(always)]
        fn $name(self, other: Self, before: Flags) -> (Self, Flags) {
            let mut value = self;
            let mut flags = before.0;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!("add al, 127", "sahf", concat!($mnemonic, " {a", $size, "}, {b", $size, "}"), "lahf", "seto al",
                    a = inout($class) value, b = in($class) other, inout("ax") flags, options(pure, nomem, nostack));
            }
            (value, Flags(flags))
        }
    };
}

macro_rules! one_keeping_carry {
    ($name:ident, $mnemonic:literal, $class:ident, $size:literal) => {
        #[inline(always)]
        fn $name(self, before: Flags) -> (Self, Flags) {
            let mut value = self;
            let mut flags = before.0;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!("sahf", concat!($mnemonic, " {a", $size, "}"), "lahf", "seto al",
                    a = inout($class) value, inout("ax") flags, options(pure, nomem, nostack));
            }
            (value, Flags(flags))
        }
    };
}

macro_rules! arithmetic {
    ($word:ty, $class:ident, $size:literal) => {
        impl Arithmetic for $word {
            two!(add, "add", $class, $size);
            two_and_flags!(adc, "adc", $class, $size);
            two!(sub, "sub", $class, $size);
            two_and_flags!(sbb, "sbb", $class, $size);
            two!(and, "and", $class, $size);
            two!(or, "or", $class, $size);
            two!(xor, "xor", $class, $size);
            one_keeping_carry!(inc, "inc", $class, $size);
            one_keeping_carry!(dec, "dec", $class, $size);
            #[inline(always)]
            fn neg(self) -> (Self, Flags) {
                (0 as $word).sub(self)
            }
        }
    };
}

arithmetic!(u8, reg_byte, "");
arithmetic!(u16, reg, ":x");
arithmetic!(u32, reg, ":e");
arithmetic!(u64, reg, ":r");
