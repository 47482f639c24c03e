//! How a mirror sees the changes of its disk.
//!
//! In the background a change is marked once it is made. Write-blocking, it goes to the target as well
//! before it is answered; its range is held from before it is made, so that no copy of older bytes lands
//! on top of it.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use super::CopyMode;
use crate::bitmap::Bitmap;
use crate::disk::Operation;
use crate::job::Control;
use crate::outcome::Outcome;
use crate::qcow2::Layer;
use crate::storage::Storage;
use crate::task::{Held, RangeLock};

/// The watcher.
#[derive(Debug)]
pub struct Following<S> {
    pub(super) target: Layer<S>,
    /// What comes from it or below it is not copied.
    pub(super) base: Option<Layer<S>>,
    /// What the target has not yet.
    pub(super) dirty: Bitmap,
    /// Ranges that are being copied.
    pub(super) ranges: RangeLock,
    mode: CopyMode,
    pub(super) control: Rc<Control>,
    /// Bytes that are being copied.
    pub(super) in_flight: Cell<u64>,
}

impl<S: Storage> Following<S> {
    pub(in crate::job) fn new(
        target: Layer<S>,
        base: Option<Layer<S>>,
        granularity: u64,
        mode: CopyMode,
        control: Rc<Control>,
    ) -> Self {
        let dirty = Bitmap::new(target.size(), granularity);
        let (ranges, in_flight) = (RangeLock::default(), Cell::new(0));
        Self { target, base, dirty, ranges, mode, control, in_flight }
    }

    pub(crate) fn is_blocking(&self) -> bool {
        self.mode == CopyMode::WriteBlocking
    }

    pub(crate) async fn before(&self, operation: &Operation) -> Option<Held<'_>> {
        match self.mode {
            CopyMode::Background => None,
            CopyMode::WriteBlocking => Some(self.ranges.hold(self.pieces(operation.range())).await),
        }
    }

    pub(crate) async fn after(&self, operation: &Operation, outcome: Outcome) {
        let range = operation.range();
        let written = match (self.mode, outcome) {
            (CopyMode::WriteBlocking, Ok(())) => self.write_too(operation).await,
            _ => false,
        };
        if written {
            // Whole pieces of it need no copy any more.
            let granularity = self.dirty.granularity();
            let end = match range.end == self.dirty.size() {
                true => range.end,
                false => range.end / granularity * granularity,
            };
            self.dirty.clear(range.start.next_multiple_of(granularity)..end);
            self.control.progress(range.end - range.start);
        } else {
            self.dirty.set(range);
            self.control.set_actively_synced(false);
            self.control.nudge();
        }
        self.account();
    }

    /// Whether the target has it now. What a discard leaves is the disk's to say: it is copied.
    async fn write_too(&self, operation: &Operation) -> bool {
        let outcome = match operation {
            Operation::Write { at, from, .. } => self.target.write(*at, from.clone()).await,
            Operation::Zero { at, len, unmap } => self.target.zero(*at, *len, *unmap).await,
            Operation::Read { .. }
            | Operation::Status { .. }
            | Operation::Flush
            | Operation::Discard { .. } => return false,
        };
        outcome.is_ok()
    }

    fn pieces(&self, range: Range<u64>) -> Range<u64> {
        let granularity = self.dirty.granularity();
        range.start / granularity * granularity..range.end.next_multiple_of(granularity)
    }

    /// Tells how much is left.
    pub(super) fn account(&self) {
        self.control.set_remaining(self.in_flight.get() + self.dirty.dirty_bytes());
    }
}
