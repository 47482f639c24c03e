//! FNSTENV, FLDENV, FNSAVE, FRSTOR: the FPU in its formats of before FXSAVE (Intel SDM volume 1, 8.1.10).
//!
//! The environment is seven fields of 16 or 32 bits, by operand size; the selectors of instruction and operand are stored as
//! zero, as current CPUs do (CPUID.7.EBX bit 13). Real mode packs its pointers differently, and nobody looks: the
//! protected-mode layouts serve both. Behind the environment, FNSAVE stores the eight registers in ten bytes each.

use super::control;
use crate::state::Fx;

/// Bytes of the longest format: a 32-bit environment and eight registers.
pub const LONGEST: usize = 28 + 80;
/// The opcode field has eleven bits.
const OPCODE: u16 = 0x7ff;

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Fields of 16 bits.
    Short,
    /// Fields of 32 bits.
    Long,
}

impl Format {
    /// `Short` as a constant parameter of a handler.
    pub const SHORT: u8 = 0;
    /// `Long` likewise.
    pub const LONG: u8 = 1;

    /// Back from the constant.
    pub fn of(constant: u8) -> Self {
        if constant == Self::SHORT { Self::Short } else { Self::Long }
    }

    /// Bytes of the environment.
    pub fn bytes(self) -> usize {
        match self {
            Self::Short => 14,
            Self::Long => 28,
        }
    }
}

/// The environment as FNSTENV stores it.
pub fn environment(image: &Fx, format: Format) -> [u8; 28] {
    let mut bytes = [0; 28];
    let words = [
        u32::from(image.control),
        u32::from(image.status),
        u32::from(full_tags(image)),
        image.instruction as u32,
        u32::from(image.opcode & OPCODE) << 16,
        image.data as u32,
        0,
    ];
    match format {
        Format::Short => {
            for (field, word) in bytes.chunks_exact_mut(2).zip(words) {
                field.copy_from_slice(&(word as u16).to_le_bytes());
            }
        }
        Format::Long => {
            for (index, (field, word)) in bytes.chunks_exact_mut(4).zip(words).enumerate() {
                // The unused upper halves of the words are stored as ones.
                let word = if matches!(index, 0..=2 | 6) { word | 0xffff_0000 } else { word };
                field.copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    bytes
}

/// Loads what FLDENV finds in memory.
pub fn load_environment(image: &mut Fx, bytes: &[u8; 28], format: Format) {
    let word = |index: usize| match format {
        Format::Short => u32::from(u16::from_le_bytes([bytes[index * 2], bytes[index * 2 + 1]])),
        Format::Long => {
            let at = index * 4;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        }
    };
    let status = word(1) as u16;
    control::turn_to(image, usize::from(status >> 11 & 7));
    image.status = status;
    image.tags = abridged_tags(word(2) as u16);
    image.instruction = u64::from(word(3));
    image.opcode = if format == Format::Long { (word(4) >> 16) as u16 & OPCODE } else { 0 };
    image.data = u64::from(word(5));
    control::load_control(image, word(0) as u16);
}

/// The eight registers, ST(0) first.
pub fn registers(image: &Fx) -> [u8; 80] {
    let mut bytes = [0; 80];
    for (field, register) in bytes.chunks_exact_mut(10).zip(image.st) {
        field.copy_from_slice(&register.to_le_bytes()[..10]);
    }
    bytes
}

/// Loads eight registers, ST(0) first.
pub fn load_registers(image: &mut Fx, bytes: &[u8]) {
    for (field, register) in bytes.chunks_exact(10).zip(&mut image.st) {
        let mut wide = [0; 16];
        wide[..10].copy_from_slice(field);
        *register = u128::from_le_bytes(wide);
    }
}

/// Two bits for each physical register: valid, zero, special, empty.
fn full_tags(image: &Fx) -> u16 {
    (0..8).fold(0, |tags, physical| {
        let register = image.st[(physical + 8 - control::top(image)) & 7];
        let tag = if image.tags & 1 << physical == 0 { 3 } else { kind(register) };
        tags | tag << (physical * 2)
    })
}

/// 0 valid, 1 zero, 2 special.
fn kind(register: u128) -> u16 {
    let exponent = (register >> 64) as u16 & 0x7fff;
    let mantissa = register as u64;
    match (exponent, mantissa) {
        (0, 0) => 1,
        (0 | 0x7fff, _) => 2,
        (_, mantissa) if mantissa >> 63 == 0 => 2,
        _ => 0,
    }
}

fn abridged_tags(full: u16) -> u8 {
    (0..8).fold(0, |tags, physical| tags | u8::from(full >> (physical * 2) & 3 != 3) << physical)
}
