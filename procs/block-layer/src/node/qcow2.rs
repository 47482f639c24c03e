//! An image with its backing files: requests become operations of [`crate::qcow2`].

use bulkhead_protocol::device::DiskInfo;

use super::{Operands, Served};
use crate::memory::Memory;
use crate::outcome::Outcome;
use crate::qcow2::Qcow2;
use crate::request::{Action, Durability};

/// The node.
#[derive(Debug)]
pub struct Qcow2Node {
    image: Qcow2<Served>,
    info: DiskInfo,
}

impl Qcow2Node {
    pub(super) fn new(image: Qcow2<Served>, info: DiskInfo) -> Self {
        Self { image, info }
    }

    pub(super) fn info(&self) -> DiskInfo {
        self.info
    }

    pub(super) async fn perform(&self, operands: &Operands) -> Outcome {
        let memory = |span| Memory::Arena { arena: operands.arena.clone(), span };
        match operands.action {
            Action::Read { at, span } => self.image.read(at, memory(span)).await,
            Action::Write { at, span, durability } => {
                self.image.write(at, memory(span)).await?;
                match durability {
                    Durability::Visible => Ok(()),
                    Durability::Fua => self.image.flush().await,
                }
            }
            Action::Flush => self.image.flush().await,
            Action::Discard { at, len } => self.image.discard(at, len).await,
            Action::Zero { at, len, unmap } => self.image.zero(at, len, unmap).await,
        }
    }

    pub(super) fn has_changed(&self) -> bool {
        self.image.has_changed()
    }

    pub(super) async fn write_back(&self) -> Outcome {
        self.image.close().await
    }
}
