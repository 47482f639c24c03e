//! A raw file that the disk is held against: QEMU's `blkverify`, to find out what a format or a job gets wrong.
//!
//! ```text
//! write ─▶ disk, then reference          read ─▶ disk ─┐
//!                                                      ├─ the same? ─▶ answer
//!                                        reference ────┘
//! ```
//!
//! Used by the [`Disk`] for each request of its exports. What a discard leaves is nobody's to say, so
//! none is passed on. Requests for the same bytes go one after another: what is compared is of one moment.
//!
//! Absent on purpose: jobs. They change where bytes lie and not what they are, and a disk that has gone over to a
//! copy is compared as before.

use std::rc::Rc;

use super::{Disk, DiskEvent, Operation, Trouble, perform};
use crate::memory::{Heap, Memory};
use crate::node::Node;
use crate::outcome::Failure;
use crate::qcow2::Layer;
use crate::storage::Storage;
use crate::task::{Held, RangeLock};

/// Bytes of which the place of a difference is told.
const SECTOR: usize = 512;

/// See the module.
#[derive(Debug)]
pub struct Reference<S> {
    layer: Layer<S>,
    requests: RangeLock,
}

impl<S: Storage> Reference<S> {
    /// This layer, which has the disk's size.
    pub fn new(layer: Layer<S>) -> Self {
        Self { layer, requests: RangeLock::default() }
    }

    /// Waits until nobody is about the same bytes.
    async fn hold(&self, operation: &Operation) -> Held<'_> {
        self.requests.hold(operation.range()).await
    }

    /// Where what was read from the disk differs: the first byte of a sector.
    async fn differs(&self, at: u64, read: &Heap) -> Result<Option<u64>, Failure> {
        let (read, expected) = (read.to_vec(), Heap::zeroes(read.to_vec().len()));
        self.layer.read(at, Memory::from(expected.clone())).await?;
        let expected = expected.to_vec();
        let mut sectors = read.chunks(SECTOR).zip(expected.chunks(SECTOR));
        let first = sectors.position(|(read, expected)| read != expected);
        Ok(first.map(|sector| at + (sector * SECTOR) as u64))
    }
}

impl<S: Storage> Disk<S> {
    /// From now on, everything is held against this.
    pub fn set_reference(&self, reference: Reference<S>) {
        *self.reference.borrow_mut() = Some(Rc::new(reference));
    }

    /// Whether it has a reference.
    pub fn is_verified(&self) -> bool {
        self.reference.borrow().is_some()
    }

    /// Does what is asked for, on the disk and on its reference.
    pub(super) async fn verify(
        &self,
        operation: &Operation,
        nodes: &[Rc<Node>],
        reference: &Reference<S>,
    ) -> Result<(), Trouble> {
        let _held = reference.hold(operation).await;
        match operation {
            Operation::Read { at, into } => {
                // What nobody else can change is compared.
                let read = Heap::zeroes(into.len() as usize);
                let ours = Operation::Read { at: *at, into: read.clone().into() };
                self.pass_on(&ours, nodes).await?;
                if let Some(at) = reference.differs(*at, &read).await? {
                    self.events.borrow_mut().push(DiskEvent::Differs { at });
                    return Err(Failure::IO.into());
                }
                Ok(Memory::from(read).copy_into(into)?)
            }
            Operation::Write { .. } | Operation::Zero { .. } | Operation::Flush => {
                let operation = operation.privately()?;
                self.pass_on(&operation, nodes).await?;
                Ok(perform(&reference.layer, &operation).await?)
            }
            Operation::Discard { .. } => Ok(()),
            Operation::Status { .. } => self.pass_on(operation, nodes).await,
        }
    }
}
