//! The course of a copy: several pieces on their way at a time.
//!
//! ```text
//! the next piece ─▶ what may be data is read ─▶ its zeroes are found ─▶ (its turn) ─▶ written ─┐
//!        ▲─────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! In order, writes begin in the disk's order, so that clusters of an image that grows lie in that order;
//! they end as they may.
//!
//! Law: the first failure ends it. No piece is left half way: what has begun comes to its end.

use std::cell::Cell;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use anyhow::Result;
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::outcome::{Failure, Outcome};
use bulkhead_block_layer::task::Waiting;

use super::copy::{Copy, join};
use super::hands::Hands;

/// Bytes of a piece. It is read and written while a processor's cache still has it.
const PIECE: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
struct Course {
    copy: Copy,
    in_order: bool,
    /// Where the next piece is that nobody has.
    next: Cell<u64>,
    /// Whose turn it is to be written, by its place.
    turn: Cell<u64>,
    turns: Waiting,
    done: Cell<u64>,
    failed: Cell<Option<Failure>>,
}

/// A write that is under way.
type Write<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// Copies with so many pieces on their way.
pub fn run(
    copy: Copy,
    most: usize,
    in_order: bool,
    hands: &Hands,
    mut tell: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let course = Rc::new(Course {
        copy,
        in_order,
        next: Cell::new(0),
        turn: Cell::new(0),
        turns: Waiting::default(),
        done: Cell::new(0),
        failed: Cell::new(None),
    });
    let begin = |tasks: &mut bulkhead_block_layer::task::Tasks| {
        for _ in 0..most.max(1) {
            let course = Rc::clone(&course);
            tasks.spawn(async move { course.walk().await });
        }
    };
    hands.finish(begin, || tell(course.done.get()))?;
    match course.failed.get() {
        Some(failure) => Err(failure.into()),
        None => tell(course.copy.len),
    }
}

impl Course {
    /// One of those that carry pieces.
    async fn walk(&self) {
        let most = PIECE.min(self.copy.len);
        let buffer = Memory::from(Heap::zeroes(most as usize));
        while let Some(Range { start, end }) = self.next_piece() {
            if let Err(failure) = self.carry(start, &buffer.part(0, end - start)).await {
                self.failed.set(self.failed.get().or(Some(failure)));
                // Whoever waits for a turn need not wait any longer.
                self.turns.wake();
            }
            self.done.set(self.done.get() + (end - start));
        }
    }

    fn next_piece(&self) -> Option<Range<u64>> {
        let start = self.next.get();
        if start >= self.copy.len || self.failed.get().is_some() {
            return None;
        }
        // Pieces keep their places, so that whole clusters are written.
        let end = (start + PIECE).min(self.copy.len);
        self.next.set(end);
        Some(start..end)
    }

    async fn carry(&self, at: u64, piece: &Memory) -> Outcome {
        let end = at + piece.len();
        let mut parts = Vec::new();
        for span in self.copy.spans(at, piece.len()).await? {
            let part = piece.part(span.start - at, span.end - span.start);
            for part in self.copy.take(span.start, &part).await? {
                join(&mut parts, part);
            }
        }
        let is_next = || !self.in_order || self.turn.get() == at || self.failed.get().is_some();
        self.turns.until(is_next).await;
        let mut writes = self.writes(at..end, piece, &parts);
        let mut outcome = Ok(());
        std::future::poll_fn(|context| {
            outcome = outcome.and(go_on(&mut writes, context));
            Poll::Ready(())
        })
        .await;
        self.turn.set(end);
        self.turns.wake();
        std::future::poll_fn(|context| {
            outcome = outcome.and(go_on(&mut writes, context));
            if writes.is_empty() { Poll::Ready(outcome) } else { Poll::Pending }
        })
        .await
    }

    /// What is to be done with the target for a piece: parts of it are written, the rest becomes zeroes.
    fn writes<'a>(
        &'a self,
        whole: Range<u64>,
        piece: &Memory,
        parts: &[Range<u64>],
    ) -> Vec<Write<'a>> {
        let (copy, mut writes) = (&self.copy, Vec::<Write<'a>>::new());
        let mut behind = whole.start;
        for Range { start, end } in parts {
            let bytes = piece.part(start - whole.start, end - start);
            writes.push(Box::pin(copy.clear(behind, start - behind)));
            writes.push(Box::pin(copy.target.write(*start, bytes)));
            behind = *end;
        }
        writes.push(Box::pin(copy.clear(behind, whole.end - behind)));
        writes
    }
}

/// Takes all of them on, and leaves those that are not over.
fn go_on(writes: &mut Vec<Write<'_>>, context: &mut Context<'_>) -> Outcome {
    let mut outcome = Ok(());
    writes.retain_mut(|write| match write.as_mut().poll(context) {
        Poll::Ready(ended) => {
            outcome = outcome.and(ended);
            false
        }
        Poll::Pending => true,
    });
    outcome
}
