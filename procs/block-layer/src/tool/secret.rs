//! Passphrases: each comes in an object of its own, and is used once.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use anyhow::Result;
use bulkhead_block_layer::luks::{Secret, UnlockError, Volume};
use bulkhead_block_layer::qcow2::{Encryption, LuksLayer, Qcow2};
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::block::secret::{LONGEST_PASSPHRASE, PASSPHRASE_AT, PASSPHRASE_LEN_AT};

use super::store::Store;

/// Reads one.
pub fn passphrase(object: OwnedFd) -> Result<Secret> {
    let (file, mut len) = (File::from(object), [0; 8]);
    file.read_exact_at(&mut len, PASSPHRASE_LEN_AT as u64)?;
    let len = usize::try_from(u64::from_le_bytes(len))?.min(LONGEST_PASSPHRASE);
    let mut bytes = Secret::new(vec![0; len]);
    file.read_exact_at(&mut bytes, PASSPHRASE_AT as u64)?;
    Ok(bytes)
}

/// Opens a volume.
pub fn open_volume(file: Store, passphrase: &[u8]) -> Result<LuksLayer<Store>, UnlockError> {
    let (volume, _used_once) = finish(Volume::unlock(&file, 0, None, passphrase))?;
    Ok(LuksLayer::new(file, volume)?)
}

/// The same of an encrypted image, whose guest data can be read and written afterwards.
pub fn open_image(image: &Qcow2<Store>, passphrase: &[u8]) -> Result<(), UnlockError> {
    if let Some(Encryption { at, bytes }) = image.encryption() {
        let unlocked = Volume::unlock(image.file(), at, Some(bytes), passphrase);
        let (volume, _used_once) = finish(unlocked)?;
        image.set_cipher(Rc::new(volume.cipher));
    }
    Ok(())
}
