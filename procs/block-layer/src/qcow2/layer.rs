//! One layer of a chain of backing files.

use super::Qcow2;
use crate::memory::Memory;
use crate::outcome::Outcome;
use crate::storage::Storage;

/// A disk that others build on.
#[derive(Debug)]
pub enum Layer<S> {
    /// Bytes as they are.
    Raw {
        /// Where.
        storage: S,
        /// How many.
        size: u64,
    },
    /// An image.
    Qcow2(Box<Qcow2<S>>),
}

impl<S: Storage> Layer<S> {
    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        match self {
            Self::Raw { size, .. } => *size,
            Self::Qcow2(image) => image.size(),
        }
    }

    /// Fills `into`; what lies beyond the end of the disk is zeroes.
    pub async fn read(&self, at: u64, into: Memory) -> Outcome {
        let there = self.size().saturating_sub(at).min(into.len());
        if there < into.len() {
            into.part(there, into.len()).zero()?;
        }
        if there == 0 {
            return Ok(());
        }
        match self {
            Self::Raw { storage, .. } => storage.read(at, into.part(0, there)).await,
            Self::Qcow2(image) => Box::pin(image.read(at, into.part(0, there))).await,
        }
    }
}
