//! Operations, and changes of the image that must be alone.
//!
//! ```text
//! read, write, zero, discard, …   many at a time                  Op
//! snapshot, bitmaps, another L1   none beside it, others wait     Alone
//! ```
//!
//! Law: an operation never begins another one: a change that waits between the two would wait for ever.

use std::cell::Cell;

use super::Qcow2;
use crate::outcome::Outcome;
use crate::storage::Storage;
use crate::task::{Held, Waiting};

/// Who waits for whom.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// A change is under way, or waits for operations to end.
    changing: Cell<bool>,
    waiting: Waiting,
}

/// An operation that may hold places of clusters in its head.
pub(super) struct Op<'a, S> {
    image: &'a Qcow2<S>,
    number: u64,
}

impl<S> Drop for Op<'_, S> {
    fn drop(&mut self) {
        let state = &mut *self.image.state.borrow_mut();
        let index = (self.number - state.first_op) as usize;
        if let Some(over) = state.ops.get_mut(index) {
            *over = true;
        }
        while state.ops.front() == Some(&true) {
            state.ops.pop_front();
            state.first_op += 1;
        }
        if self.image.turns.changing.get() && state.ops.is_empty() {
            self.image.turns.waiting.wake();
        }
    }
}

/// Nobody else does anything with the image, and the file says all there is to say.
pub(super) struct Alone<'a, S> {
    image: &'a Qcow2<S>,
    _changes: Held<'a>,
    _commits: Option<Held<'a>>,
}

impl<S> Drop for Alone<'_, S> {
    fn drop(&mut self) {
        self.image.turns.changing.set(false);
        self.image.turns.waiting.wake();
    }
}

impl<S: Storage> Qcow2<S> {
    pub(super) async fn begin(&self) -> Op<'_, S> {
        self.turns.waiting.until(|| !self.turns.changing.get()).await;
        let state = &mut *self.state.borrow_mut();
        let number = state.first_op + state.ops.len() as u64;
        state.ops.push_back(false);
        Op { image: self, number }
    }

    /// Waits for every operation, lets none begin, and writes what only memory has.
    pub(super) async fn alone(&self) -> Result<Alone<'_, S>, crate::outcome::Failure> {
        let changes = self.changes.hold_all().await;
        self.turns.changing.set(true);
        let mut alone = Alone { image: self, _changes: changes, _commits: None };
        self.turns.waiting.until(|| self.state.borrow().ops.is_empty()).await;
        self.settle_all().await?;
        alone._commits = Some(self.commits.hold_all().await);
        Ok(alone)
    }

    /// Nothing is under way: what was taken for requests that failed is given back, and everything is
    /// written. The journal has nothing left to tell.
    async fn settle_all(&self) -> Outcome {
        let taken: Vec<u64> = self.state.borrow().taken.iter().copied().collect();
        for cluster in taken {
            self.release(cluster, 1);
        }
        self.close().await?;
        let mark = self.journal.mark();
        self.note_bitmaps();
        self.journal.forget(mark);
        Ok(())
    }
}
