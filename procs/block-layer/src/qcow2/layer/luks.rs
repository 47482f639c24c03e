//! A LUKS volume: byte `n` of the disk is byte `start + n` of the file, in sectors that are encrypted.

use std::rc::Rc;

use crate::luks::{Cipher, SECTOR, Sectors, Volume};
use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// The layer.
#[derive(Debug)]
pub struct LuksLayer<S> {
    storage: S,
    cipher: Rc<Cipher>,
    start: u64,
    size: u64,
}

impl<S: Storage> LuksLayer<S> {
    /// The volume of a file, which has bytes up to its end.
    pub fn new(storage: S, volume: Volume) -> Result<Self, Failure> {
        let start = u64::from(volume.header.payload) * SECTOR;
        let size = storage.size()?.saturating_sub(start) / SECTOR * SECTOR;
        Ok(Self { storage, cipher: Rc::new(volume.cipher), start, size })
    }

    /// The same volume by another descriptor of the file.
    pub fn again(&self, storage: S) -> Self {
        Self { storage, cipher: Rc::clone(&self.cipher), start: self.start, size: self.size }
    }

    /// Its file.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// The first byte of the disk in its file.
    pub fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) async fn read(&self, at: u64, into: Memory) -> Outcome {
        self.sectors().read(at, into).await
    }

    pub(super) async fn write(&self, at: u64, from: Memory) -> Outcome {
        self.sectors().write(at, from).await
    }

    pub(super) async fn zero(&self, at: u64, len: u64) -> Outcome {
        self.sectors().zero(at, len).await
    }

    fn sectors(&self) -> Sectors<'_, S> {
        Sectors { storage: &self.storage, cipher: &self.cipher, start: self.start }
    }
}
