//! Sectors in AES: XTS, and CBC with the ways to begin a sector that LUKS images have.
//!
//! Every sector of 512 bytes is encrypted by itself; its number is what makes it different from others of
//! the same content. Modes are chained here by hand over the block cipher, many blocks at a time: that is
//! what its instructions are fast at.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256, Block};
use ring::digest;

use super::SECTOR;

/// Sectors whose beginnings are computed together.
const BATCH: usize = 8;

/// Bytes of a block of AES.
const BLOCK: usize = 16;

/// How sectors are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// XTS: each block by its place.
    Xts,
    /// Each block by the one before.
    Cbc,
}

/// What a sector begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Its number in 32 bits.
    Plain,
    /// Its number in 64 bits.
    Plain64,
    /// Its number, encrypted by the SHA-256 digest of the key.
    Essiv,
}

/// Mode and start, as headers name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// How sectors are encrypted.
    pub mode: Mode,
    /// What a sector begins with.
    pub start: Start,
}

impl Spec {
    /// Bytes of the keys that there are.
    pub fn key_lengths(self) -> &'static [usize] {
        match self.mode {
            Mode::Xts => &[32, 64],
            Mode::Cbc => &[16, 24, 32],
        }
    }
}

enum Aes {
    Short(Box<Aes128>),
    Middle(Box<Aes192>),
    Long(Box<Aes256>),
}

impl Aes {
    fn new(key: &[u8]) -> Option<Self> {
        match key.len() {
            16 => Aes128::new_from_slice(key).ok().map(|aes| Self::Short(Box::new(aes))),
            24 => Aes192::new_from_slice(key).ok().map(|aes| Self::Middle(Box::new(aes))),
            32 => Aes256::new_from_slice(key).ok().map(|aes| Self::Long(Box::new(aes))),
            _ => None,
        }
    }

    fn encrypt(&self, blocks: &mut [Block]) {
        match self {
            Self::Short(aes) => aes.encrypt_blocks(blocks),
            Self::Middle(aes) => aes.encrypt_blocks(blocks),
            Self::Long(aes) => aes.encrypt_blocks(blocks),
        }
    }

    fn decrypt(&self, blocks: &mut [Block]) {
        match self {
            Self::Short(aes) => aes.decrypt_blocks(blocks),
            Self::Middle(aes) => aes.decrypt_blocks(blocks),
            Self::Long(aes) => aes.decrypt_blocks(blocks),
        }
    }
}

/// A key, ready for use. Wiped when it is dropped.
pub struct Cipher {
    mode: Mode,
    start: Start,
    data: Aes,
    /// For what a sector begins with: the second half of an XTS key, or the digest of ESSIV.
    tweak: Option<Aes>,
    /// The same of ESSIV under XTS, where both are needed.
    digest: Option<Aes>,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cipher({:?}, {:?})", self.mode, self.start)
    }
}

impl Cipher {
    /// A cipher with this key; `None`: it has no keys of this length.
    pub fn new(spec: Spec, key: &[u8]) -> Option<Self> {
        let Spec { mode, start } = spec;
        if !spec.key_lengths().contains(&key.len()) {
            return None;
        }
        let (data, tweak) = match mode {
            Mode::Xts => {
                let (data, tweak) = key.split_at(key.len() / 2);
                (Aes::new(data)?, Some(Aes::new(tweak)?))
            }
            Mode::Cbc => (Aes::new(key)?, None),
        };
        let digest = match start {
            Start::Essiv => Some(Aes::new(digest::digest(&digest::SHA256, key).as_ref())?),
            Start::Plain | Start::Plain64 => None,
        };
        Some(Self { mode, start, data, tweak, digest })
    }

    /// Encrypts whole sectors, the first of which has this number.
    pub fn encrypt(&self, sector: u64, bytes: &mut [u8]) {
        self.each(sector, bytes, |start, blocks| match self.mode {
            Mode::Xts => xts(start, blocks, |blocks| self.data.encrypt(blocks)),
            Mode::Cbc => {
                let mut before = start;
                for block in blocks {
                    xor(block, &before);
                    self.data.encrypt(std::slice::from_mut(block));
                    before = *block;
                }
            }
        });
    }

    /// Decrypts whole sectors, the first of which has this number.
    pub fn decrypt(&self, sector: u64, bytes: &mut [u8]) {
        self.each(sector, bytes, |start, blocks| match self.mode {
            Mode::Xts => xts(start, blocks, |blocks| self.data.decrypt(blocks)),
            Mode::Cbc => {
                let mut before = [start; SECTOR as usize / BLOCK];
                before[1..].copy_from_slice(&blocks[..SECTOR as usize / BLOCK - 1]);
                self.data.decrypt(blocks);
                blocks.iter_mut().zip(&before).for_each(|(block, before)| xor(block, before));
            }
        });
    }

    /// Does something with each sector and what it begins with. Bytes behind the last whole one stay.
    fn each(&self, first: u64, bytes: &mut [u8], mut with: impl FnMut(Block, &mut [Block])) {
        let mut number = first;
        for batch in bytes.chunks_mut(BATCH * SECTOR as usize) {
            let mut starts = [Block::default(); BATCH];
            for start in &mut starts {
                *start = self.plain(number);
                number = number.wrapping_add(1);
            }
            for aes in self.digest.iter().chain(&self.tweak) {
                aes.encrypt(&mut starts);
            }
            for (sector, start) in batch.chunks_exact_mut(SECTOR as usize).zip(starts) {
                let (blocks, _) = Array::slice_as_chunks_mut(sector);
                with(start, blocks);
            }
        }
    }

    fn plain(&self, sector: u64) -> Block {
        let number = match self.start {
            Start::Plain => sector & u64::from(u32::MAX),
            Start::Plain64 | Start::Essiv => sector,
        };
        let mut start = Block::default();
        start[..8].copy_from_slice(&number.to_le_bytes());
        start
    }
}

/// IEEE 1619: blocks are masked before and after, by the tweak times x to the power of their place.
fn xts(tweak: Block, blocks: &mut [Block], cipher: impl FnOnce(&mut [Block])) {
    let mut masks = [Block::default(); SECTOR as usize / BLOCK];
    let mut mask = u128::from_le_bytes(tweak.into());
    for place in &mut masks {
        *place = mask.to_le_bytes().into();
        let carry = mask >> 127;
        mask = (mask << 1) ^ (carry * 0x87);
    }
    blocks.iter_mut().zip(&masks).for_each(|(block, mask)| xor(block, mask));
    cipher(blocks);
    blocks.iter_mut().zip(&masks).for_each(|(block, mask)| xor(block, mask));
}

fn xor(block: &mut Block, with: &Block) {
    let number = |block: &Block| u128::from_ne_bytes((*block).into());
    *block = (number(block) ^ number(with)).to_ne_bytes().into();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn the_standards_vector_comes_out() {
        // IEEE 1619-2007, vector 4: sector 0, the bytes 0 to 255 twice.
        let key = bytes("2718281828459045235360287471352631415926535897932384626433832795");
        let cipher = Cipher::new(Spec { mode: Mode::Xts, start: Start::Plain64 }, &key).unwrap();
        let plain: Vec<u8> = (0..512).map(|n| n as u8).collect();
        let mut sector = plain.clone();
        cipher.encrypt(0, &mut sector);
        assert_eq!(
            sector[..32],
            bytes("27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c")
        );
        cipher.decrypt(0, &mut sector);
        assert_eq!(sector, plain);
    }

    #[test]
    fn what_was_encrypted_comes_back_from_its_own_place_only() {
        for mode in [Mode::Xts, Mode::Cbc] {
            for start in [Start::Plain, Start::Plain64, Start::Essiv] {
                let spec = Spec { mode, start };
                for len in spec.key_lengths() {
                    let key: Vec<u8> = (0..*len).map(|n| n as u8).collect();
                    let cipher = Cipher::new(spec, &key).unwrap();
                    let plain: Vec<u8> = (0..512 * 19).map(|n| (n / 3) as u8).collect();
                    let mut there = plain.clone();
                    cipher.encrypt(5, &mut there);
                    let (mut one, mut all) = (there[512 * 9..512 * 10].to_vec(), there.clone());
                    cipher.decrypt(14, &mut one);
                    cipher.decrypt(5, &mut all);
                    assert!(all == plain && one == plain[512 * 9..512 * 10], "{spec:?}");
                    cipher.decrypt(6, &mut there);
                    assert!(there != plain, "{spec:?}");
                }
            }
        }
    }

    #[test]
    fn other_lengths_of_keys_are_none() {
        let spec = Spec { mode: Mode::Xts, start: Start::Plain64 };
        assert!(Cipher::new(spec, &[0; 16]).is_none() && Cipher::new(spec, &[0; 48]).is_none());
    }
}
