//! An image with its backing files: requests become operations of [`crate::qcow2`].

use bulkhead_protocol::device::DiskInfo;

use super::{Operands, Served};
use crate::memory::Memory;
use crate::outcome::{Failure, Outcome};
use crate::qcow2::Qcow2;
use crate::request::{Action, Durability};
use crate::status::Extents;

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
            Action::Zero { at, len, fast: true, .. } if !self.image.zeroes_fast(at, len) => {
                Err(Failure::UNSUPPORTED)
            }
            Action::Zero { at, len, unmap, .. } => self.image.zero(at, len, unmap).await,
            Action::Status { at, len, span } => {
                self.status(at, len).await?.put(&operands.arena, span)
            }
        }
    }

    async fn status(&self, at: u64, len: u64) -> Result<Extents, Failure> {
        let mut extents = Extents::new();
        let end = at + len;
        let mut next = at;
        while next < end && extents.has_room() {
            let range = self.image.range(next, end - next).await?;
            let depth = if range.present { range.depth + 1 } else { 0 };
            extents.push(range.length, depth, !range.data, range.zero);
            next += range.length.max(1);
        }
        Ok(extents)
    }

    pub(super) fn has_changed(&self) -> bool {
        self.image.has_changed()
    }

    pub(super) async fn write_back(&self) -> Outcome {
        self.image.close().await
    }
}
