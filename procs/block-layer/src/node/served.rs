//! A file under a format, as the process serves it: storage whose calls go over the desk.

use std::rc::Rc;
use std::sync::Arc;

use crate::graph::Desk;
use crate::image::{Call, Image};
use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// The file.
#[derive(Debug)]
pub struct Served {
    image: Arc<Image>,
    desk: Rc<Desk>,
}

impl Served {
    /// Storage over an open container.
    pub fn new(image: Image, desk: Rc<Desk>) -> Self {
        Self { image: Arc::new(image), desk }
    }

    /// The file itself, for lanes that may go past the graph.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    async fn call(&self, call: Call) -> Outcome {
        self.desk.call_to_the_end(&self.image, call).await
    }
}

impl Storage for Served {
    async fn read(&self, at: u64, into: Memory) -> Outcome {
        self.call(Call::Read { at, into }).await
    }

    async fn write(&self, at: u64, from: Memory) -> Outcome {
        self.call(Call::Write { at, from }).await
    }

    async fn zero(&self, at: u64, len: u64) -> Outcome {
        self.call(Call::Zero { at, len, unmap: true }).await
    }

    async fn zero_in_place(&self, at: u64, len: u64) -> Outcome {
        self.call(Call::Zero { at, len, unmap: false }).await
    }

    async fn discard(&self, at: u64, len: u64) -> Outcome {
        self.call(Call::Discard { at, len }).await
    }

    async fn sync(&self) -> Outcome {
        self.call(Call::Sync).await
    }

    fn size(&self) -> Result<u64, Failure> {
        self.image.size_now()
    }

    fn grows(&self) -> bool {
        self.image.grows()
    }
}
