//! Making a volume: a header with one key slot, as `qemu-img create -f luks` makes it.
//!
//! The caller brings the random bytes: a sealed process has no way to draw any.

use super::cipher::{Mode, Spec, Start};
use super::header::{self, Hash, Header, STRIPES, Slot};
use super::unlock::derive;
use super::{Cipher, SECTOR, Secret, split};
use crate::memory::Heap;
use crate::outcome::Failure;
use crate::storage::Storage;

/// Least rounds of a key derivation, as cryptsetup and QEMU have it.
pub const LEAST_ROUNDS: u32 = 1000;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// How sectors are encrypted.
    pub spec: Spec,
    /// Bytes of the key: one of the spec's lengths.
    pub key_bytes: usize,
    /// How keys are derived.
    pub hash: Hash,
    /// Rounds of the derivation from the passphrase.
    pub rounds: u32,
}

impl Wanted {
    /// Bytes of a header with its keys: the disk begins behind them.
    pub fn header_bytes(&self) -> u64 {
        u64::from(header::empty_slot(header::SLOTS, self.key_bytes)) * SECTOR
    }
}

impl Default for Wanted {
    /// QEMU's, with the rounds that take an ordinary processor a second.
    fn default() -> Self {
        let spec = Spec { mode: Mode::Xts, start: Start::Plain64 };
        Self { spec, key_bytes: 64, hash: Hash::Sha256, rounds: 2_000_000 }
    }
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// A cipher has no keys of this length.
    #[error("the cipher has no keys of {0} bytes")]
    Key(usize),
    /// No passphrase.
    #[error("an empty passphrase protects nothing")]
    Passphrase,
    /// The random source.
    #[error("there are no random bytes: {0}")]
    Random(String),
    /// The host.
    #[error("the image cannot be written: {0}")]
    Host(#[from] Failure),
}

/// Writes a header with its keys at byte `at` of a file; the volume's header. Its disk begins where that ends.
pub async fn create<S: Storage>(
    file: &S,
    at: u64,
    wanted: &Wanted,
    passphrase: &[u8],
    mut random: impl FnMut(&mut [u8]) -> Result<(), String>,
) -> Result<(Header, Secret), CreateError> {
    let Wanted { spec, key_bytes, hash, rounds } = wanted.clone();
    if passphrase.is_empty() {
        return Err(CreateError::Passphrase);
    }
    let mut draw = |len: usize| {
        let mut bytes = Secret::new(vec![0; len]);
        random(&mut bytes).map(|()| bytes).map_err(CreateError::Random)
    };
    let key = draw(key_bytes)?;
    let (mut salt, mut digest_salt) = ([0; 32], [0; 32]);
    salt.copy_from_slice(&draw(32)?);
    digest_salt.copy_from_slice(&draw(32)?);
    let rounds = rounds.max(LEAST_ROUNDS);
    let slot = Slot { rounds, salt, sector: header::empty_slot(0, key_bytes), stripes: STRIPES };
    let mut slots = [None; header::SLOTS];
    slots[0] = Some(slot);
    let mut header = Header {
        spec,
        hash,
        payload: header::empty_slot(header::SLOTS, key_bytes),
        key_bytes,
        digest: [0; 20],
        digest_salt,
        digest_rounds: (rounds / 8).max(LEAST_ROUNDS),
        uuid: uuid(&draw(16)?),
        slots,
    };
    let mut digest = [0; 20];
    derive(&header, header.digest_rounds, &header.digest_salt, &key, &mut digest);
    header.digest = digest;
    let noise = draw(key_bytes * (STRIPES as usize - 1))?;
    let split = split::split(hash.digest(), &key, &noise);
    let mut material = Secret::new(vec![0; header.material(slot)]);
    material.iter_mut().zip(split.iter()).for_each(|(place, byte)| *place = *byte);
    let mut derived = Secret::new(vec![0; key_bytes]);
    derive(&header, slot.rounds, &slot.salt, passphrase, &mut derived);
    let cipher = Cipher::new(spec, &derived).ok_or(CreateError::Key(key_bytes))?;
    cipher.encrypt(0, &mut material);
    // All of it is there, so that the file has the length that its header tells.
    let end = u64::from(header.payload) * SECTOR;
    file.zero(at, end).await?;
    file.write(at, sectors(&header.write())).await?;
    file.write(at + u64::from(slot.sector) * SECTOR, sectors(&material)).await?;
    Ok((header, key))
}

fn sectors(bytes: &[u8]) -> crate::memory::Memory {
    let heap = Heap::zeroes(bytes.len().next_multiple_of(SECTOR as usize));
    heap.with(|place| place[..bytes.len()].copy_from_slice(bytes));
    heap.into()
}

/// A random one (RFC 9562, version 4).
fn uuid(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (number, byte) in bytes.iter().take(16).enumerate() {
        let byte = match number {
            6 => byte & 0x0f | 0x40,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if matches!(number, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}
