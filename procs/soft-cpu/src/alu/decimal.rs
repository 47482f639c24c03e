//! DAA, DAS, AAA, AAS, AAM, AAD: decimal adjustments of AL and AX.
//!
//! They exist outside 64-bit mode only, so the host cannot run them for us: these are the tables of Intel's SDM volume 2,
//! written out. Flags the manual leaves undefined follow what current CPUs do, as far as it is known.

use super::Arithmetic;
use crate::state::{Flags, rflags};

/// SF, ZF and PF of a byte; AF and CF as given; no OF.
fn settled(value: u8, adjust: bool, carry: bool) -> Flags {
    let signs = value.or(value).1.to_rflags() & (rflags::SF | rflags::ZF | rflags::PF);
    let adjust = if adjust { rflags::AF } else { 0 };
    let carry = if carry { rflags::CF } else { 0 };
    Flags::from_rflags(signs | adjust | carry)
}

/// Whether the low digit overflowed.
fn overflowed(low: u8, before: Flags) -> bool {
    low & 0xf > 9 || before.to_rflags() & rflags::AF != 0
}

/// DAA: AL after an addition of packed decimals.
pub fn daa(al: u8, before: Flags) -> (u8, Flags) {
    let low = overflowed(al, before);
    let high = al > 0x99 || before.cf();
    let value = al.wrapping_add(if low { 6 } else { 0 }).wrapping_add(if high { 0x60 } else { 0 });
    (value, settled(value, low, high))
}

/// DAS: AL after a subtraction of packed decimals.
pub fn das(al: u8, before: Flags) -> (u8, Flags) {
    let low = overflowed(al, before);
    let high = al > 0x99 || before.cf();
    let borrow = high || low && al < 6;
    let value = al.wrapping_sub(if low { 6 } else { 0 }).wrapping_sub(if high { 0x60 } else { 0 });
    (value, settled(value, low, borrow))
}

/// AAA: AX after an addition of unpacked decimals.
pub fn aaa(ax: u16, before: Flags) -> (u16, Flags) {
    let adjust = overflowed(ax as u8, before);
    let value = if adjust { ax.wrapping_add(0x106) } else { ax };
    (value & 0xff0f, settled(value as u8 & 0xf, adjust, adjust))
}

/// AAS: AX after a subtraction of unpacked decimals.
pub fn aas(ax: u16, before: Flags) -> (u16, Flags) {
    let adjust = overflowed(ax as u8, before);
    let value = if adjust { ax.wrapping_sub(6).wrapping_sub(0x100) } else { ax };
    (value & 0xff0f, settled(value as u8 & 0xf, adjust, adjust))
}

/// AAM: AX from AL in digits of `radix`; nothing where the CPU raises #DE.
pub fn aam(al: u8, radix: u8) -> Option<(u16, Flags)> {
    let high = al.checked_div(radix)?;
    let low = al % radix;
    Some((u16::from(high) << 8 | u16::from(low), settled(low, false, false)))
}

/// AAD: AX from its two digits of `radix`. The flags are those of the addition.
pub fn aad(ax: u16, radix: u8) -> (u16, Flags) {
    let (value, flags) = (ax as u8).add(((ax >> 8) as u8).wrapping_mul(radix));
    (u16::from(value), flags)
}
