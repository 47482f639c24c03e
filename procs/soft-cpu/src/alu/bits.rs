//! BT, BTS, BTR, BTC, BSF, BSR, TZCNT, LZCNT, POPCNT, BSWAP, MOVBE, CRC32.
//!
//! Widths from 16 bits; CRC32 also takes bytes. Bit numbers are taken modulo the width: the memory forms, which address
//! beyond their operand, find the word before they come here.

use crate::state::Flags;
use core::arch::asm;

/// Tests, scans and counts of bits.
pub trait Bits: Sized {
    /// BT.
    fn bt(self, bit: Self, before: Flags) -> Flags;
    /// BTS.
    fn bts(self, bit: Self, before: Flags) -> (Self, Flags);
    /// BTR.
    fn btr(self, bit: Self, before: Flags) -> (Self, Flags);
    /// BTC.
    fn btc(self, bit: Self, before: Flags) -> (Self, Flags);
    /// BSF into `register` (all 64 bits of it): a source of zero leaves it as the host does, which is what kernels rely on.
    fn bsf(self, register: u64, before: Flags) -> (u64, Flags);
    /// BSR into `register` (all 64 bits of it), likewise.
    fn bsr(self, register: u64, before: Flags) -> (u64, Flags);
    /// TZCNT.
    fn tzcnt(self) -> (Self, Flags);
    /// LZCNT.
    fn lzcnt(self) -> (Self, Flags);
    /// POPCNT.
    fn popcnt(self) -> (Self, Flags);
    /// Bytes in reverse order: BSWAP and MOVBE (BSWAP of 16 bits is undefined and not this).
    fn bytes_swapped(self) -> Self;
}

macro_rules! change {
    ($name:ident, $mnemonic:literal, $size:literal) => {
        #[inline(always)]
        fn $name(self, bit: Self, before: Flags) -> (Self, Flags) {
            let mut value = self;
            let mut flags = before.0;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!("add al, 127", "sahf", concat!($mnemonic, " {a", $size, "}, {b", $size, "}"), "lahf", "seto al",
                    a = inout(reg) value, b = in(reg) bit, inout("ax") flags, options(pure, nomem, nostack));
            }
            (value, Flags(flags))
        }
    };
}

macro_rules! scan {
    ($name:ident, $mnemonic:literal, $size:literal) => {
        #[inline(always)]
        fn $name(self, register: u64, before: Flags) -> (u64, Flags) {
            let mut value = register;
            let mut flags = before.0;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!("add al, 127", "sahf", concat!($mnemonic, " {a", $size, "}, {b", $size, "}"), "lahf", "seto al",
                    a = inout(reg) value, b = in(reg) self, inout("ax") flags, options(pure, nomem, nostack));
            }
            (value, Flags(flags))
        }
    };
}

macro_rules! count {
    ($name:ident, $mnemonic:literal, $size:literal) => {
        #[inline(always)]
        fn $name(self) -> (Self, Flags) {
            let value: Self;
            let after: u16;
            // SAFETY: arithmetic on registers; reads and writes no memory.
            unsafe {
                asm!(concat!($mnemonic, " {a", $size, "}, {b", $size, "}"), "lahf", "seto al",
                    a = out(reg) value, b = in(reg) self, out("ax") after, options(pure, nomem, nostack));
            }
            (value, Flags(after))
        }
    };
}

macro_rules! bits {
    ($word:ty, $size:literal) => {
        impl Bits for $word {
            #[inline(always)]
            fn bt(self, bit: Self, before: Flags) -> Flags {
                let mut flags = before.0;
                // SAFETY: arithmetic on registers; reads and writes no memory.
                unsafe {
                    asm!("add al, 127", "sahf", concat!("bt {a", $size, "}, {b", $size, "}"), "lahf", "seto al",
                        a = in(reg) self, b = in(reg) bit, inout("ax") flags, options(pure, nomem, nostack));
                }
                Flags(flags)
            }
            change!(bts, "bts", $size);
            change!(btr, "btr", $size);
            change!(btc, "btc", $size);
            scan!(bsf, "bsf", $size);
            scan!(bsr, "bsr", $size);
            count!(tzcnt, "tzcnt", $size);
            count!(lzcnt, "lzcnt", $size);
            count!(popcnt, "popcnt", $size);
            #[inline(always)]
            fn bytes_swapped(self) -> Self {
                self.swap_bytes()
            }
        }
    };
}

bits!(u16, ":x");
bits!(u32, ":e");
bits!(u64, ":r");

/// CRC32 (the Castagnoli polynomial) of one operand of `bytes` bytes: 1, 2, 4 or 8.
#[inline(always)]
pub fn crc32(sum: u32, value: u64, bytes: usize) -> u32 {
    let mut sum = u64::from(sum);
    // SAFETY (all four arms): arithmetic on registers; reads and writes no memory.
    match bytes {
        1 => {
            // SAFETY: as above.
            unsafe {
                asm!("crc32 {0:e}, {1}", inout(reg) sum, in(reg_byte) value as u8, options(pure, nomem, nostack))
            }
        }
        2 => {
            // SAFETY: as above.
            unsafe {
                asm!("crc32 {0:e}, {1:x}", inout(reg) sum, in(reg) value, options(pure, nomem, nostack))
            }
        }
        4 => {
            // SAFETY: as above.
            unsafe {
                asm!("crc32 {0:e}, {1:e}", inout(reg) sum, in(reg) value, options(pure, nomem, nostack))
            }
        }
        _ => {
            // SAFETY: as above.
            unsafe {
                asm!("crc32 {0:r}, {1:r}", inout(reg) sum, in(reg) value, options(pure, nomem, nostack))
            }
        }
    }
    sum as u32
}
