//! What lies under a format here: a file.
//!
//! Alone, every call blocks, and no future ever waits. While several operations are under way, calls that
//! may take long are made by the [`Hands`].

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Result;
use bulkhead_block_layer::memory::Memory;
use bulkhead_block_layer::outcome::{Failure, Outcome};
use bulkhead_block_layer::storage::{Plain, Storage};
use bulkhead_block_layer::task::finish;

use super::hands::Hands;

/// A call of fewer bytes is made faster than it is given away.
const LONG: u64 = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct Store {
    plain: Arc<Plain>,
    hands: Hands,
}

impl Store {
    /// A file, opened as the caller means to use it; `careless`: flushes wait for nothing.
    pub fn new(fd: OwnedFd, careless: bool, hands: Hands) -> Result<Self> {
        Ok(Self { plain: Arc::new(Plain::new(fd, careless)?), hands })
    }

    /// The same file once more.
    pub fn again(&self) -> Self {
        Self { plain: Arc::clone(&self.plain), hands: self.hands.clone() }
    }

    /// Makes the file `len` bytes long.
    pub fn set_len(&self, len: u64) -> Result<()> {
        Ok(self.plain.set_len(len)?)
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        self.plain.file()
    }

    async fn call(
        &self,
        bytes: u64,
        call: impl FnOnce(&Plain) -> Outcome + Send + 'static,
    ) -> Outcome {
        if bytes < LONG || !self.hands.take_calls() {
            return call(&self.plain);
        }
        let plain = Arc::clone(&self.plain);
        self.hands.call(move || call(&plain)).await
    }
}

impl Storage for Store {
    async fn read(&self, at: u64, into: Memory) -> Outcome {
        self.call(into.len(), move |plain| finish(plain.read(at, into))).await
    }

    async fn write(&self, at: u64, from: Memory) -> Outcome {
        self.call(from.len(), move |plain| finish(plain.write(at, from))).await
    }

    async fn zero(&self, at: u64, len: u64) -> Outcome {
        self.plain.zero(at, len).await
    }

    async fn discard(&self, at: u64, len: u64) -> Outcome {
        self.plain.discard(at, len).await
    }

    async fn sync(&self) -> Outcome {
        self.plain.sync().await
    }

    fn size(&self) -> Result<u64, Failure> {
        self.plain.size()
    }

    fn grows(&self) -> bool {
        self.plain.grows()
    }
}
