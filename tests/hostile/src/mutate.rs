//! Inputs that are nearly right: samples, damaged a little, the same on every run.
//!
//! Coverage-guided search belongs to `tests/fuzz`. This is what an ordinary test can do in a second:
//! flip, overwrite by numbers that are likely to be near a border, cut, repeat, and join two samples.

/// xorshift64*: fast, and a run is repeated by its seed.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.roll() >> 8) as usize % bound.max(1)
    }

    /// A number that is likely to be near a border of something.
    fn near_a_border(&mut self) -> u64 {
        let power = 1u64 << self.below(64);
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => power,
            3 => power.wrapping_sub(1),
            4 => self.below(300) as u64,
            _ => self.roll(),
        }
    }
}

/// Longest input.
const LONGEST: usize = 16 * 1024;

/// An input made of `samples`: now and then one of them as it is, or nothing but chance.
pub fn input(samples: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = samples.get(dice.below(samples.len())).cloned().unwrap_or_default();
    match dice.below(32) {
        0 => return bytes,
        1 => return (0..dice.below(600)).map(|_| dice.roll() as u8).collect(),
        2 => {
            let other = samples.get(dice.below(samples.len())).cloned().unwrap_or_default();
            bytes.truncate(dice.below(bytes.len() + 1));
            bytes.extend(&other[dice.below(other.len())..]);
        }
        _ => {}
    }
    for _ in 0..=dice.below(5) {
        damage(&mut bytes, dice);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len());
    let run = 1 + dice.below(16);
    let end = (at + run).min(bytes.len());
    match dice.below(8) {
        0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.below(8)),
        2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = dice.roll() as u8),
        3 | 4 => {
            let number = dice.near_a_border().to_le_bytes();
            let width = 1 << dice.below(4);
            bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
        }
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(at..end)),
        _ => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
    }
}
