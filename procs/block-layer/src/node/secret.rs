//! A secret in a memory object that the supervisor keeps: a passphrase at first, a volume key once it was
//! used. The layout is [`bulkhead_protocol::block::secret`]'s.
//!
//! The process may be killed between any two stores: the key counts once the state says so, and only then is
//! the passphrase wiped. Only block-layers of this disk ever have the object. One that was taken over had the
//! volume's key and could write anything by it, so a successor takes the key as it is.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use bulkhead_protocol::block::secret::{
    KEY_AT, KEY_LEN_AT, LONGEST_KEY, LONGEST_PASSPHRASE, PASSPHRASE_AT, PASSPHRASE_LEN_AT,
    SECRET_BYTES, STATE_AT,
};
use bulkhead_sys::mapping::{Rights, SharedMapping};

use crate::luks::{Secret, UnlockError, Volume};
use crate::qcow2::{Encryption, Qcow2};
use crate::storage::Storage;

/// The state of one that holds a volume key.
const KEY: u64 = 1;

/// See the module.
#[derive(Debug)]
pub struct KeptSecret(SharedMapping);

/// The object is no secret. The supervisor (`Bug`) or the predecessor (`Peer`) is to blame.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be mapped.
    #[error("the secret cannot be mapped: {0}")]
    Host(#[from] std::io::Error),
    /// Its seals or its length.
    #[error("the secret is wrong: {0}")]
    Object(#[from] bulkhead_sys::memfd::SealError),
}

impl KeptSecret {
    /// Maps the object.
    pub fn open(object: &OwnedFd) -> Result<Self, SecretError> {
        bulkhead_sys::memfd::verify_sealed(object.as_fd(), SECRET_BYTES)?;
        Ok(Self(SharedMapping::map(object, SECRET_BYTES as usize, Rights::ReadWrite)?))
    }

    /// Opens the volume whose header begins at byte `at` of a file; its keys have `room` bytes, header
    /// included, or reach up to the disk that follows.
    pub async fn unlock<S: Storage>(
        &self,
        file: &S,
        at: u64,
        room: Option<u64>,
    ) -> Result<Volume, UnlockError> {
        if self.number(STATE_AT) == KEY {
            let header = Volume::header(file, at).await?;
            return Volume::with_key(header, &self.bytes(KEY_AT, KEY_LEN_AT, LONGEST_KEY));
        }
        let passphrase = self.bytes(PASSPHRASE_AT, PASSPHRASE_LEN_AT, LONGEST_PASSPHRASE);
        let (volume, key) = Volume::unlock(file, at, room, &passphrase).await?;
        self.keep(&key);
        Ok(volume)
    }

    /// The same for an encrypted qcow2 image: guest data can be read and written afterwards.
    pub async fn unlock_image<S: Storage>(&self, image: &Qcow2<S>) -> Result<(), UnlockError> {
        if let Some(Encryption { at, bytes }) = image.encryption() {
            let volume = self.unlock(image.file(), at, Some(bytes)).await?;
            image.set_cipher(Rc::new(volume.cipher));
        }
        Ok(())
    }

    fn keep(&self, key: &[u8]) {
        if self.0.copy_out(KEY_AT, key).is_err() {
            return;
        }
        self.set_number(KEY_LEN_AT, key.len() as u64);
        self.set_number(STATE_AT, KEY);
        // It lies within: see the layout.
        let _wiped = self.0.zero(PASSPHRASE_AT, LONGEST_PASSPHRASE);
    }

    fn bytes(&self, at: usize, len_at: usize, most: usize) -> Secret {
        let len = usize::try_from(self.number(len_at)).unwrap_or(most).min(most);
        let mut bytes = Secret::new(vec![0; len]);
        if self.0.copy_in(at, &mut bytes).is_err() {
            bytes.fill(0);
        }
        bytes
    }

    fn number(&self, at: usize) -> u64 {
        self.0.atomic_u64(at).map_or(0, |number| number.load(Ordering::Acquire))
    }

    fn set_number(&self, at: usize, value: u64) {
        if let Ok(number) = self.0.atomic_u64(at) {
            number.store(value, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::luks::{Wanted, create};
    use crate::storage::memory::MemoryFile;
    use crate::task::finish;

    #[test]
    fn a_passphrase_is_used_once_and_a_successor_has_the_key() {
        let file = MemoryFile::default();
        let wanted = Wanted { rounds: 1000, ..Wanted::default() };
        let noise = |bytes: &mut [u8]| {
            bytes
                .iter_mut()
                .zip(7..)
                .for_each(|(byte, n): (_, u32)| *byte = (n.wrapping_mul(n) >> 3) as u8);
            Ok(())
        };
        finish(create(&file, 0, &wanted, b"secret", noise)).unwrap();
        let object = bulkhead_sys::memfd::create_sealed("secret", SECRET_BYTES).unwrap();
        let secret = KeptSecret::open(&object).unwrap();
        secret.0.copy_out(PASSPHRASE_AT, b"wrong!").unwrap();
        secret.set_number(PASSPHRASE_LEN_AT, 6);
        let refused = finish(secret.unlock(&file, 0, None)).unwrap_err();
        assert_eq!(refused, UnlockError::Passphrase);
        secret.0.copy_out(PASSPHRASE_AT, b"secret").unwrap();
        finish(secret.unlock(&file, 0, None)).unwrap();
        let mut left = [1; LONGEST_PASSPHRASE];
        secret.0.copy_in(PASSPHRASE_AT, &mut left).unwrap();
        assert!(left.iter().all(|byte| *byte == 0));
        // A key is one for the cipher at once: no round of derivation is computed.
        let successor = KeptSecret::open(&object).unwrap();
        finish(successor.unlock(&file, 0, None)).unwrap();
        successor.set_number(KEY_LEN_AT, u64::MAX);
        assert_eq!(finish(successor.unlock(&file, 0, None)).unwrap_err(), UnlockError::Key);
    }
}
