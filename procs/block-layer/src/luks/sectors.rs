//! Encrypted bytes of a file: read and decrypted, encrypted and written.
//!
//! Called by the [layer](crate::qcow2::LuksLayer) of a volume, and by encrypted qcow2 images for their guest
//! data. Bytes are encrypted in memory of this process, never where a peer could read or change them
//! meanwhile, and by pieces, so that a large request needs no more memory than a small one.
//!
//! Law: what is written begins and ends with a sector. A sector that was never written reads as rubbish, as
//! everywhere with LUKS: nothing here takes holes for zeroes.

use super::{Cipher, SECTOR};
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// Bytes that are encrypted together.
const PIECE: u64 = 256 << 10;

/// A file whose sectors are encrypted from one byte on.
#[derive(Debug, Clone, Copy)]
pub struct Sectors<'a, S> {
    /// The file.
    pub storage: &'a S,
    /// The key.
    pub cipher: &'a Cipher,
    /// Where sector 0 is.
    pub start: u64,
}

impl<S: Storage> Sectors<'_, S> {
    /// Fills `into` with what was written at `at`.
    pub async fn read(&self, at: u64, into: Memory) -> Outcome {
        let end = at + into.len();
        let mut next = at;
        while next < end {
            let first = next / SECTOR * SECTOR;
            let until = (first + PIECE).min(end);
            let heap = Heap::zeroes((until - first).next_multiple_of(SECTOR) as usize);
            self.storage.read(self.start + first, heap.clone().into()).await?;
            heap.with(|bytes| self.cipher.decrypt(first / SECTOR, bytes));
            let clear = Memory::from(heap).part(next - first, until - next);
            clear.copy_into(&into.part(next - at, until - next))?;
            next = until;
        }
        Ok(())
    }

    /// Writes `from` at `at`.
    pub async fn write(&self, at: u64, from: Memory) -> Outcome {
        let mut done = 0;
        while done < from.len() {
            let len = PIECE.min(from.len() - done);
            let heap = Heap::zeroes(len as usize);
            from.part(done, len).copy_into(&heap.clone().into())?;
            self.put(at + done, heap).await?;
            done += len;
        }
        Ok(())
    }

    /// Zeroes are encrypted and written like everything else.
    pub async fn zero(&self, at: u64, len: u64) -> Outcome {
        let mut done = 0;
        while done < len {
            let piece = PIECE.min(len - done);
            self.put(at + done, Heap::zeroes(piece as usize)).await?;
            done += piece;
        }
        Ok(())
    }

    /// Encrypts in place, and writes.
    async fn put(&self, at: u64, clear: Heap) -> Outcome {
        if !at.is_multiple_of(SECTOR) || !(clear.len() as u64).is_multiple_of(SECTOR) {
            return Err(Failure::INVALID);
        }
        clear.with(|bytes| self.cipher.encrypt(at / SECTOR, bytes));
        self.storage.write(self.start + at, clear.into()).await
    }
}
