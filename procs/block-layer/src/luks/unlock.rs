//! From a passphrase to a volume: the slots are tried one after the other.
//!
//! It takes seconds of processor time, on purpose. So it happens while a chain is opened and nobody waits for
//! requests yet; whoever has the key of a volume once opens it at once ([`Volume::with_key`]).

use std::num::NonZeroU32;

use ring::pbkdf2;

use super::header::{BYTES, Header, HeaderError, Slot};
use super::{Cipher, SECTOR, Secret, split};
use crate::memory::Heap;
use crate::outcome::Failure;
use crate::storage::Storage;

/// Why a volume stays locked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// Its header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// No slot is for this passphrase.
    #[error("the passphrase opens none of its key slots; a newline at its end counts")]
    Passphrase,
    /// A key that is none of this volume's.
    #[error("the key that was kept is not the image's")]
    Key,
    /// Keys or disk lie where the file has no bytes.
    #[error("the image's LUKS header is wrong: {0} bytes are too few for its keys")]
    Room(u64),
    /// The host refused.
    #[error("the image cannot be read: {0}")]
    Host(#[from] Failure),
}

/// An open volume.
#[derive(Debug)]
pub struct Volume {
    /// Its header.
    pub header: Header,
    /// For its sectors.
    pub cipher: Cipher,
}

impl Volume {
    /// Reads the header that begins at byte `at` of a file.
    pub async fn header<S: Storage>(file: &S, at: u64) -> Result<Header, UnlockError> {
        let there = file.size()?.saturating_sub(at).min(BYTES as u64);
        let bytes = read(file, at, there as usize).await?;
        Ok(Header::read(&bytes)?)
    }

    /// Opens the volume whose header begins at byte `at` and has `room` bytes together with its keys; `None`:
    /// they reach up to the disk. Also the volume key, which opens it at once the next time.
    pub async fn unlock<S: Storage>(
        file: &S,
        at: u64,
        room: Option<u64>,
        passphrase: &[u8],
    ) -> Result<(Self, Secret), UnlockError> {
        let header = Self::header(file, at).await?;
        let there = file.size()?.saturating_sub(at);
        let room = room.unwrap_or(u64::from(header.payload) * SECTOR).min(there);
        if header.end() > room {
            return Err(UnlockError::Room(room));
        }
        for slot in header.active() {
            let begin = at + u64::from(slot.sector) * SECTOR;
            let split = read(file, begin, header.material(slot)).await?;
            let key = key_of(&header, slot, passphrase, split);
            if let Some(key) = key.filter(|key| is_key(&header, key)) {
                return Ok((Self::with_key(header, &key)?, key));
            }
        }
        Err(UnlockError::Passphrase)
    }

    /// Opens the volume whose key was found before.
    pub fn with_key(header: Header, key: &[u8]) -> Result<Self, UnlockError> {
        let fits = key.len() == header.key_bytes;
        let cipher = fits.then(|| Cipher::new(header.spec, key)).flatten();
        Ok(Self { header, cipher: cipher.ok_or(UnlockError::Key)? })
    }
}

fn key_of(header: &Header, slot: Slot, passphrase: &[u8], mut split: Secret) -> Option<Secret> {
    let mut derived = Secret::new(vec![0; header.key_bytes]);
    derive(header, slot.rounds, &slot.salt, passphrase, &mut derived);
    Cipher::new(header.spec, &derived)?.decrypt(0, &mut split);
    Some(split::merge(header.hash.digest(), &split, header.key_bytes, slot.stripes))
}

fn is_key(header: &Header, key: &[u8]) -> bool {
    let mut digest = [0; 20];
    derive(header, header.digest_rounds, &header.digest_salt, key, &mut digest);
    digest == header.digest
}

/// PBKDF2 by the header's digest. `rounds` is not 0 in a header that was read.
pub(super) fn derive(header: &Header, rounds: u32, salt: &[u8], secret: &[u8], out: &mut [u8]) {
    let rounds = NonZeroU32::new(rounds).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(header.hash.pbkdf2(), rounds, salt, secret, out);
}

/// Bytes of a file; zeroes beyond its end. Whole pages are read, as direct I/O wants them.
async fn read<S: Storage>(file: &S, at: u64, len: usize) -> Result<Secret, Failure> {
    let heap = Heap::zeroes(len.next_multiple_of(4096));
    file.read(at, heap.clone().into()).await?;
    Ok(heap.with(|bytes| Secret::new(bytes[..len].to_vec())))
}
