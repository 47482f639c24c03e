//! What lies under a format here: a file, or an export on a server.
//!
//! Alone, every call blocks, and no future ever waits. While several operations are under way, calls on
//! files that may take long are made by the [`Hands`], and what is asked of servers is waited for together.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Result;
use bulkhead_block_layer::memory::Memory;
use bulkhead_block_layer::outcome::{Failure, Outcome};
use bulkhead_block_layer::remote::Remote;
use bulkhead_block_layer::storage::{Plain, Storage};
use bulkhead_block_layer::task::finish;

use super::hands::Hands;

/// See the module.
#[derive(Debug)]
pub enum Store {
    /// A file.
    Here(Here),
    /// An export.
    There(Remote),
}

/// A file, and who makes long calls on it.
#[derive(Debug, Clone)]
pub struct Here {
    plain: Arc<Plain>,
    hands: Hands,
}

impl Store {
    /// A file, opened as the caller means to use it; `careless`: flushes wait for nothing.
    pub fn new(fd: OwnedFd, careless: bool, hands: Hands) -> Result<Self> {
        Ok(Self::Here(Here { plain: Arc::new(Plain::new(fd, careless)?), hands }))
    }

    /// The same once more.
    pub fn again(&self) -> Self {
        match self {
            Self::Here(here) => Self::Here(here.clone()),
            Self::There(remote) => Self::There(remote.clone()),
        }
    }

    /// Makes the file `len` bytes long. What is no file stays as long as it is.
    pub fn set_len(&self, len: u64) -> Result<()> {
        match self {
            Self::Here(here) => Ok(here.plain.set_len(len)?),
            Self::There(_) => Ok(()),
        }
    }

    /// The file itself.
    pub fn file(&self) -> Option<&File> {
        match self {
            Self::Here(here) => Some(here.plain.file()),
            Self::There(_) => None,
        }
    }
}

impl Here {
    async fn call(
        &self,
        bytes: u64,
        call: impl FnOnce(&Plain) -> Outcome + Send + 'static,
    ) -> Outcome {
        if !self.hands.take(bytes) {
            return call(&self.plain);
        }
        let plain = Arc::clone(&self.plain);
        self.hands.call(move || call(&plain)).await
    }
}

impl Storage for Store {
    async fn read(&self, at: u64, into: Memory) -> Outcome {
        match self {
            Self::Here(here) => {
                here.call(into.len(), move |plain| finish(plain.read(at, into))).await
            }
            Self::There(remote) => remote.read(at, into).await,
        }
    }

    async fn write(&self, at: u64, from: Memory) -> Outcome {
        match self {
            Self::Here(here) => {
                here.call(from.len(), move |plain| finish(plain.write(at, from))).await
            }
            Self::There(remote) => remote.write(at, from).await,
        }
    }

    async fn zero(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::Here(here) => here.plain.zero(at, len).await,
            Self::There(remote) => remote.zero(at, len).await,
        }
    }

    async fn zero_in_place(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::Here(here) => here.plain.zero_in_place(at, len).await,
            Self::There(remote) => remote.zero_in_place(at, len).await,
        }
    }

    async fn discard(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::Here(here) => here.plain.discard(at, len).await,
            Self::There(remote) => remote.discard(at, len).await,
        }
    }

    async fn reads_zero(&self, at: u64, len: u64) -> Result<(bool, u64), Failure> {
        match self {
            Self::Here(here) => here.plain.reads_zero(at, len).await,
            Self::There(remote) => remote.reads_zero(at, len).await,
        }
    }

    async fn sync(&self) -> Outcome {
        match self {
            Self::Here(here) => here.plain.sync().await,
            Self::There(remote) => remote.sync().await,
        }
    }

    fn size(&self) -> Result<u64, Failure> {
        match self {
            Self::Here(here) => here.plain.size(),
            Self::There(remote) => remote.size(),
        }
    }

    fn grows(&self) -> bool {
        match self {
            Self::Here(here) => here.plain.grows(),
            Self::There(remote) => remote.grows(),
        }
    }
}
