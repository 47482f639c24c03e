//! The content of a block: which one it is, which of its generations, and a checksum over all of it.

/// Bytes of a block.
pub const BLOCK: usize = 4096;

const MAGIC: u64 = u64::from_le_bytes(*b"STAMPED!");

/// Bytes in front of the filling: magic, number, generation, checksum.
const HEADER: usize = 32;

/// What a block says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which block.
    pub number: u64,
    /// How often it was written before, and once more; 0: never.
    pub generation: u64,
}

/// Why a block's bytes are no stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// Something else was written there.
    #[error("no stamp but {0:#x}")]
    Magic(u64),
    /// Parts of two writes, or bits that changed.
    #[error("{stamp:?} with checksum {found:#x} instead of {expected:#x}")]
    Checksum {
        /// What the header says.
        stamp: Stamp,
        /// The checksum there.
        found: u64,
        /// What it must be.
        expected: u64,
    },
}

impl Stamp {
    /// The bytes of the block.
    pub fn fill(self, block: &mut [u8; BLOCK]) {
        let mut state = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.generation;
        let (header, filling) = block.split_at_mut(HEADER);
        for word in filling.chunks_exact_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&state.to_le_bytes());
        }
        let words = [MAGIC, self.number, self.generation, checksum(filling)];
        for (place, word) in header.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// What a block is. All zeroes: `number` was never written.
    pub fn of(block: &[u8; BLOCK], number: u64) -> Result<Self, Corrupt> {
        let word = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&block[index * 8..index * 8 + 8]);
            u64::from_le_bytes(bytes)
        };
        if block.iter().all(|byte| *byte == 0) {
            return Ok(Self { number, generation: 0 });
        }
        if word(0) != MAGIC {
            return Err(Corrupt::Magic(word(0)));
        }
        let stamp = Self { number: word(1), generation: word(2) };
        let (found, expected) = (word(3), checksum(&block[HEADER..]));
        match found == expected {
            true => Ok(stamp),
            false => Err(Corrupt::Checksum { stamp, found, expected }),
        }
    }
}

/// FNV-1a over words.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        (sum ^ u64::from_le_bytes(bytes)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_a_changed_bit_is_found() {
        let stamp = Stamp { number: 7, generation: 3 };
        let mut block = [0; BLOCK];
        stamp.fill(&mut block);
        assert_eq!(Stamp::of(&block, 7), Ok(stamp));
        block[4000] ^= 1;
        assert!(matches!(Stamp::of(&block, 7), Err(Corrupt::Checksum { .. })));
    }

    #[test]
    fn halves_of_two_generations_are_no_stamp() {
        let (mut old, mut new) = ([0; BLOCK], [0; BLOCK]);
        Stamp { number: 7, generation: 3 }.fill(&mut old);
        Stamp { number: 7, generation: 4 }.fill(&mut new);
        new[2048..].copy_from_slice(&old[2048..]);
        assert!(matches!(Stamp::of(&new, 7), Err(Corrupt::Checksum { .. })));
    }
}
