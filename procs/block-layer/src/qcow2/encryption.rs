//! Guest data of an encrypted image: a LUKS header lies inside the image, and every cluster that holds data
//! is encrypted by its place in the file. Metadata is not.
//!
//! Called wherever guest data is read or written as it is. Law: without the key guest data of such an image
//! is neither read nor written, whoever opened it for whatever else.
//!
//! See `docs/interop/qcow2.txt`, "Full disk encryption header pointer", and QEMU's `crypt_physical_offset`.

use std::rc::Rc;

use super::Qcow2;
use super::header::extensions::Encryption;
use crate::luks::{Cipher, Sectors};
use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

impl<S: Storage> Qcow2<S> {
    /// Where its LUKS header is, if it is encrypted.
    pub fn encryption(&self) -> Option<Encryption> {
        self.state.borrow().header.extensions.encryption
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encryption().is_some()
    }

    /// Gives it its key; the first one stays.
    pub fn set_cipher(&self, cipher: Rc<Cipher>) {
        let _had_one = self.cipher.set(cipher);
    }

    /// Its key, for the same image opened once more.
    pub fn cipher(&self) -> Option<Rc<Cipher>> {
        self.cipher.get().cloned()
    }

    pub(super) async fn read_data(&self, host: u64, into: Memory) -> Outcome {
        match self.encryption() {
            None => self.guest_data().read(host, into).await,
            Some(_) => self.sectors()?.read(host, into).await,
        }
    }

    pub(super) async fn write_data(&self, host: u64, from: Memory) -> Outcome {
        match self.encryption() {
            None => self.guest_data().write(host, from).await,
            Some(_) => self.sectors()?.write(host, from).await,
        }
    }

    fn sectors(&self) -> Result<Sectors<'_, S>, Failure> {
        let cipher = self.cipher.get().ok_or(Failure::IO)?;
        Ok(Sectors { storage: self.guest_data(), cipher, start: 0 })
    }
}
