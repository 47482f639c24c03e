//! The x87 tag word, which `FXSAVE` abridges to one bit for each register and gdb wants whole.
//!
//! Intel SDM volume 1, 8.1.7 and 10.5.1.1: 0 valid, 1 zero, 2 special, 3 empty; numbered by physical
//! register, while the registers themselves are stored from the top of the stack.

/// Bytes of a register's place in the area, and where the first is.
const SLOT: usize = 16;
const FIRST: usize = 32;

const VALID: u16 = 0;
const ZERO: u16 = 1;
const SPECIAL: u16 = 2;
const EMPTY: u16 = 3;

/// The whole tag word of an `FXSAVE` area.
pub fn whole_tags(fx: &[u8]) -> u16 {
    let byte = |at: usize| fx.get(at).copied().unwrap_or(0);
    let top = usize::from(byte(3) >> 3 & 7);
    let tag = |physical: usize| match byte(4) >> physical & 1 {
        0 => EMPTY,
        _ => class(fx, FIRST + SLOT * ((physical + 8 - top) % 8)),
    };
    (0..8).fold(0, |tags, physical| tags | tag(physical) << (2 * physical))
}

fn class(fx: &[u8], at: usize) -> u16 {
    let bytes = |from: usize, to: usize| fx.get(at + from..at + to).unwrap_or_default().iter();
    let fold = |from, to| bytes(from, to).rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
    let (mantissa, exponent) = (fold(0, 8), fold(8, 10) & 0x7fff);
    match (exponent, mantissa) {
        (0, 0) => ZERO,
        (1..0x7fff, _) if mantissa >> 63 == 1 => VALID,
        _ => SPECIAL,
    }
}

/// One bit for each register, of a whole tag word.
pub fn abridged_tags(whole: u16) -> u8 {
    (0..8)
        .filter(|physical| whole >> (2 * physical) & 3 != EMPTY)
        .fold(0, |all, bit| all | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_tell_what_is_in_a_register() {
        let mut fx = vec![0; 512];
        assert_eq!(whole_tags(&fx), 0xffff, "all empty");
        // The top of the stack is physical register 6: 1.0, then (7) 0.0, then (0) an infinity.
        fx[3] = 6 << 3;
        fx[4] = 0b1100_0001;
        fx[32..42].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
        fx[64..74].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x7f]);
        assert_eq!(whole_tags(&fx), 0b01_00_11_11_11_11_11_10);
        assert_eq!(abridged_tags(whole_tags(&fx)), fx[4]);
        assert_eq!(whole_tags(&[]), 0xffff);
    }
}
