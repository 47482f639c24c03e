//! How a backup sees the changes of its disk: before they are made.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use crate::bitmap::Bitmap;
use crate::disk::{Disk, Operation};
use crate::job::Control;
use crate::job::control::Side;
use crate::job::copy::copy;
use crate::outcome::{Failure, Outcome};
use crate::qcow2::Layer;
use crate::storage::Storage;
use crate::task::RangeLock;

/// The watcher.
#[derive(Debug)]
pub struct Preserving<S> {
    disk: Rc<Disk<S>>,
    target: Layer<S>,
    /// What is to be copied and was not yet.
    todo: Bitmap,
    /// Pieces that are being copied.
    ranges: RangeLock,
    control: Rc<Control>,
    /// Something was overwritten that could not be copied: there is no backup any more.
    broken: Cell<Option<Failure>>,
}

impl<S: Storage> Preserving<S> {
    pub(super) fn new(
        disk: &Rc<Disk<S>>,
        target: Layer<S>,
        todo: Bitmap,
        control: Rc<Control>,
    ) -> Self {
        Self {
            disk: Rc::clone(disk),
            target,
            todo,
            ranges: RangeLock::default(),
            control,
            broken: Cell::new(None),
        }
    }

    pub(super) fn todo(&self) -> &Bitmap {
        &self.todo
    }

    pub(super) fn broken(&self) -> Option<Failure> {
        self.broken.get()
    }

    /// The copy is not worth its name any more.
    pub(super) fn give_up(&self, failure: Failure) {
        self.broken.set(Some(failure));
        self.control.nudge();
    }

    /// Copies what is about to be changed. A target that has no space for it makes the request wait, if
    /// that is the job's policy; any other failure ends the backup and not the request.
    pub(crate) async fn before(&self, operation: &Operation) -> Outcome {
        let range = operation.range();
        while self.broken.get().is_none() {
            let Some(next) = self.todo.next_dirty(range.start, u64::MAX) else {
                break;
            };
            if next.start >= range.end {
                break;
            }
            let unit = self.todo.granularity();
            let end = next.end.min(range.end.next_multiple_of(unit)).min(self.todo.size());
            match self.preserve(next.start..end).await {
                Ok(()) => {}
                Err((Side::Target, failure)) if self.control.waits_for(failure) => {
                    return Err(failure);
                }
                Err((_, failure)) => self.give_up(failure),
            }
        }
        Ok(())
    }

    /// Copies the pieces of a range that nobody has copied yet. The range is one of whole pieces.
    pub(super) async fn preserve(&self, range: Range<u64>) -> Result<(), (Side, Failure)> {
        let _held = self.ranges.hold(range.clone()).await;
        let mut from = range.start;
        while let Some(next) = self.todo.next_dirty(from, range.end - from)
            && next.start < range.end
        {
            let len = next.end.min(range.end) - next.start;
            self.copy(next.start, len).await?;
            from = next.start + len;
            self.todo.clear(next.start..from);
            self.control.progress(len);
            self.account();
            if from >= range.end {
                break;
            }
        }
        Ok(())
    }

    async fn copy(&self, at: u64, len: u64) -> Result<(), (Side, Failure)> {
        copy(&self.disk.top(), &self.target, None, at, len).await
    }

    /// Tells how much is left.
    pub(super) fn account(&self) {
        self.control.set_remaining(self.todo.dirty_bytes());
    }
}
