//! The whole table of a device: one memory object, one region per queue.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bulkhead_protocol::device::QueuePlan;
use bulkhead_protocol::inflight::{stride, table_size};
use bulkhead_sys::mapping::{Rights, SharedMapping};
use bulkhead_sys::memfd::{self, SealError};

use super::region::Words;
use crate::wire::TableShape;

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is no sealed memory object of the table's length. Blame: Peer.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Its shape is not the device's. Blame: Peer.
    #[error("an in-flight table of {} bytes at {} for {} queues of {}", .0.len, .0.offset, .0.queues, .0.queue_size)]
    Shape(TableShape),
    /// The kernel refused.
    #[error("the in-flight table cannot be mapped: {0}")]
    Host(#[from] io::Error),
}

/// A mapped table and its descriptor.
#[derive(Debug)]
pub struct InflightTable {
    plan: QueuePlan,
    mapping: Arc<SharedMapping>,
    fd: OwnedFd,
}

impl InflightTable {
    /// Maps a table that was made for `plan`.
    pub fn map(plan: QueuePlan, fd: OwnedFd) -> Result<Self, TableError> {
        let len = table_size(plan.queues, plan.queue_size);
        memfd::verify_sealed(fd.as_fd(), len)?;
        // At most 16 queues of 32768 entries of 32 bytes.
        let mapping = Arc::new(SharedMapping::map(&fd, len as usize, Rights::ReadWrite)?);
        Ok(Self { plan, mapping, fd })
    }

    /// The shape that a frontend is told for its wish; `None`: more queues or larger ones than there
    /// are.
    pub fn shape(&self, wish: TableShape) -> Option<TableShape> {
        let fits = wish.queues <= self.plan.queues && wish.queue_size <= self.plan.queue_size;
        fits.then_some(TableShape { len: self.mapping.len() as u64, offset: 0, ..wish })
    }

    /// Whether a frontend that hands a table back means one that is laid out like this.
    pub fn accepts(&self, shape: TableShape) -> Result<(), TableError> {
        match self.shape(shape) {
            Some(ours) if ours == shape => Ok(()),
            _ => Err(TableError::Shape(shape)),
        }
    }

    /// Whether `fd` is this very object.
    pub fn is(&self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        memfd::same_object(self.fd.as_fd(), fd)
    }

    /// What the device has.
    pub fn plan(&self) -> QueuePlan {
        self.plan
    }

    /// The region of queue `index`; `None` if there is no such queue.
    pub(super) fn words(&self, index: u16) -> Option<Words> {
        let stride = stride(self.plan.queue_size) as usize;
        let base = stride.checked_mul(index.into())?;
        (index < self.plan.queues).then(|| Words::new(self.mapping.clone(), base, stride))
    }

    /// Forgets all requests, as a driver does that starts anew.
    pub fn reset(&self) {
        // Never outside: it is the mapping's own length.
        let _ = self.mapping.zero(0, self.mapping.len());
    }
}

impl AsFd for InflightTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
