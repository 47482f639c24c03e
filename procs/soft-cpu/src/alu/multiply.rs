//! MUL, IMUL, DIV, IDIV.
//!
//! Multiplications are the host's own, flags included (SF, ZF, AF and PF are undefined, so they are the host's choice).
//! Division is written out, for the host's would fault where the guest's must: `None` is the guest's divide error. Its flags
//! are all undefined; the handlers leave them as they were.

use crate::state::Flags;
use core::arch::asm;

/// Products and quotients. A double-width value is a pair (low, high): AX is (AL, AH), otherwise (rAX, rDX).
pub trait Multiply: Sized {
    /// MUL: (low, high, flags); CF and OF say that the high half is not zero.
    fn mul(self, other: Self) -> (Self, Self, Flags);
    /// IMUL with one operand: (low, high, flags); CF and OF say that the high half is not the sign of the low one.
    fn imul(self, other: Self) -> (Self, Self, Flags);
    /// DIV of `high:low`: (quotient, remainder), or nothing where the CPU raises #DE.
    fn div(low: Self, high: Self, divisor: Self) -> Option<(Self, Self)>;
    /// IDIV of `high:low`: (quotient, remainder), or nothing where the CPU raises #DE.
    fn idiv(low: Self, high: Self, divisor: Self) -> Option<(Self, Self)>;
}

macro_rules! product {
    ($name:ident, $mnemonic:literal, $size:literal) => {
        #[inline(always)]
        fn $name(self, other: Self) -> (Self, Self, Flags) {
            let low: Self;
            let high: Self;
            let after: u16;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!(concat!($mnemonic, " {b", $size, "}"), "mov {low:r}, rax", "lahf", "seto al",
                    b = in(reg) other, low = lateout(reg) low, in("rax") self, in("rdx") 0u64,
                    lateout("rax") after, lateout("rdx") high, options(pure, nomem, nostack));
            }
            (low, high, Flags(after))
        }
    };
}

macro_rules! product_of_bytes {
    ($name:ident, $mnemonic:literal) => {
        #[inline(always)]
        fn $name(self, other: Self) -> (Self, Self, Flags) {
            let both: u16;
            let after: u16;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!(concat!($mnemonic, " {b}"), "mov {both:x}, ax", "lahf", "seto al",
                    b = in(reg_byte) other, both = lateout(reg) both, inout("ax") u16::from(self) => after,
                    options(pure, nomem, nostack));
            }
            (both as u8, (both >> 8) as u8, Flags(after))
        }
    };
}

/// Quotients of widths whose double fits a native integer.
macro_rules! quotients {
    ($word:ty, $signed:ty, $double:ty, $signed_double:ty) => {
        #[inline(always)]
        fn div(low: Self, high: Self, divisor: Self) -> Option<(Self, Self)> {
            let dividend = <$double>::from(high) << <$word>::BITS | <$double>::from(low);
            let quotient = dividend.checked_div(<$double>::from(divisor))?;
            Some((
                <$word>::try_from(quotient).ok()?,
                (dividend % <$double>::from(divisor)) as $word,
            ))
        }
        #[inline(always)]
        fn idiv(low: Self, high: Self, divisor: Self) -> Option<(Self, Self)> {
            let dividend =
                (<$double>::from(high) << <$word>::BITS | <$double>::from(low)) as $signed_double;
            let divisor = <$signed_double>::from(divisor as $signed);
            let quotient = dividend.checked_div(divisor)?;
            Some((<$signed>::try_from(quotient).ok()? as $word, (dividend % divisor) as $word))
        }
    };
}

impl Multiply for u8 {
    product_of_bytes!(mul, "mul");
    product_of_bytes!(imul, "imul");
    quotients!(u8, i8, u16, i16);
}

impl Multiply for u16 {
    product!(mul, "mul", ":x");
    product!(imul, "imul", ":x");
    quotients!(u16, i16, u32, i32);
}

impl Multiply for u32 {
    product!(mul, "mul", ":e");
    product!(imul, "imul", ":e");
    quotients!(u32, i32, u64, i64);
}

impl Multiply for u64 {
    product!(mul, "mul", ":r");
    product!(imul, "imul", ":r");

    #[inline(always)]
    fn div(low: u64, high: u64, divisor: u64) -> Option<(u64, u64)> {
        // Also refuses a divisor of zero: the quotient fits exactly when the high half is below the divisor.
        if high >= divisor {
            return None;
        }
        let (quotient, remainder): (u64, u64);
        // SAFETY: divides registers; high < divisor, so the quotient fits and the host does not fault.
        unsafe {
            asm!("div {}", in(reg) divisor, inlateout("rax") low => quotient, inlateout("rdx") high => remainder,
                options(pure, nomem, nostack));
        }
        Some((quotient, remainder))
    }

    #[inline(always)]
    fn idiv(low: u64, high: u64, divisor: u64) -> Option<(u64, u64)> {
        let dividend = (u128::from(high) << 64 | u128::from(low)) as i128;
        let negative = ((high ^ divisor) as i64) < 0;
        let magnitude = dividend.unsigned_abs();
        let (quotient, remainder) =
            Self::div(magnitude as u64, (magnitude >> 64) as u64, (divisor as i64).unsigned_abs())?;
        let limit = if negative { 1 << 63 } else { (1 << 63) - 1 };
        if quotient > limit {
            return None;
        }
        let quotient = if negative { quotient.wrapping_neg() } else { quotient };
        let remainder = if dividend < 0 { remainder.wrapping_neg() } else { remainder };
        Some((quotient, remainder))
    }
}

macro_rules! truncated {
    ($word:ty, $size:literal) => {
        impl Truncated for $word {
            #[inline(always)]
            fn imul_low(self, other: Self) -> (Self, Flags) {
                let mut value = self;
                let after: u16;
                // SAFETY: arithmetic on registers; reads and writes no memory.
                unsafe {
                    asm!(concat!("imul {a", $size, "}, {b", $size, "}"), "lahf", "seto al",
                        a = inout(reg) value, b = in(reg) other, out("ax") after, options(pure, nomem, nostack));
                }
                (value, Flags(after))
            }
        }
    };
}

/// IMUL with two or three operands: only the low half. There is no 8-bit form.
pub trait Truncated: Sized {
    /// The low half; CF and OF say that it lost something.
    fn imul_low(self, other: Self) -> (Self, Flags);
}

truncated!(u16, ":x");
truncated!(u32, ":e");
truncated!(u64, ":r");
