//! What lies under a format, as the process serves it: a file, whose calls go over the desk, or an export of
//! another program's server.

use std::rc::Rc;
use std::sync::Arc;

use crate::graph::Desk;
use crate::image::{Call, Image};
use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};
use crate::remote::Remote;
use crate::storage::Storage;

/// See the module.
#[derive(Debug)]
pub enum Served {
    /// A file or block device.
    File(File),
    /// An export of an NBD server.
    Remote(Remote),
}

/// An open file and the desk of its graph.
#[derive(Debug)]
pub struct File {
    image: Arc<Image>,
    desk: Rc<Desk>,
}

impl Served {
    /// Storage over an open container.
    pub fn new(image: Image, desk: Rc<Desk>) -> Self {
        Self::File(File { image: Arc::new(image), desk })
    }

    /// The file itself, for lanes that may go past the graph.
    pub fn image(&self) -> Option<&Arc<Image>> {
        match self {
            Self::File(file) => Some(&file.image),
            Self::Remote(_) => None,
        }
    }
}

impl File {
    async fn call(&self, call: Call) -> Outcome {
        self.desk.call_to_the_end(&self.image, call).await
    }
}

impl Storage for Served {
    async fn read(&self, at: u64, into: Memory) -> Outcome {
        match self {
            Self::File(file) => file.call(Call::Read { at, into }).await,
            Self::Remote(remote) => remote.read(at, into).await,
        }
    }

    async fn write(&self, at: u64, from: Memory) -> Outcome {
        match self {
            Self::File(file) => file.call(Call::Write { at, from }).await,
            Self::Remote(remote) => remote.write(at, from).await,
        }
    }

    async fn zero(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::File(file) => file.call(Call::Zero { at, len, unmap: true }).await,
            Self::Remote(remote) => remote.zero(at, len).await,
        }
    }

    async fn zero_in_place(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::File(file) => file.call(Call::Zero { at, len, unmap: false }).await,
            Self::Remote(remote) => remote.zero_in_place(at, len).await,
        }
    }

    async fn discard(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::File(file) => file.call(Call::Discard { at, len }).await,
            Self::Remote(remote) => remote.discard(at, len).await,
        }
    }

    async fn reads_zero(&self, at: u64, len: u64) -> Result<(bool, u64), Failure> {
        match self {
            Self::File(_) => Ok((false, len)),
            Self::Remote(remote) => remote.reads_zero(at, len).await,
        }
    }

    async fn sync(&self) -> Outcome {
        match self {
            Self::File(file) => file.call(Call::Sync).await,
            Self::Remote(remote) => remote.sync().await,
        }
    }

    fn wants_room(&self) -> bool {
        self.image().is_some_and(|image| image.wants_room())
    }

    async fn make_room(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::File(file) => file.call(Call::MakeRoom { at, len }).await,
            Self::Remote(_) => Err(Failure::UNSUPPORTED),
        }
    }

    async fn cut(&self, end: u64) -> Outcome {
        match self {
            Self::File(file) => file.call(Call::Cut { end }).await,
            Self::Remote(_) => Err(Failure::UNSUPPORTED),
        }
    }

    fn size(&self) -> Result<u64, Failure> {
        match self {
            Self::File(file) => file.image.size_now(),
            Self::Remote(remote) => remote.size(),
        }
    }

    fn grows(&self) -> bool {
        match self {
            Self::File(file) => file.image.grows(),
            Self::Remote(remote) => remote.grows(),
        }
    }
}
