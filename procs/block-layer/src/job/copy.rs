//! Copying a range between layers, and several ranges at a time.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::control::Side;
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::qcow2::{Held, Layer};
use crate::storage::Storage;

/// Most bytes of one copy.
pub(super) const LONGEST: u64 = 512 << 10;

/// Copies of one job at a time: with [`LONGEST`], its memory.
pub(super) const AT_A_TIME: usize = 4;

/// Bytes that become zeroes together where the target has no clusters.
const UNIT: u64 = 64 << 10;

/// Copies a range, as it reads on `from`, to the same place in `to`. Ranges that are known to read as
/// zeroes become zeroes there without being read. What comes from `base` or below it is left out.
pub(super) async fn copy<S: Storage>(
    from: &Layer<S>,
    to: &Layer<S>,
    base: Option<&Layer<S>>,
    at: u64,
    len: u64,
) -> Result<(), (Side, Failure)> {
    let base = base.and_then(|base| from.depth_of(base));
    let source = |failure| (Side::Source, failure);
    let target = |failure| (Side::Target, failure);
    let mut done = 0;
    while done < len {
        let at = at + done;
        let piece = from.piece(at, len - done).await.map_err(source)?;
        if base.is_some() && !piece.is_above(base) {
            // `to` reads the same there.
        } else if piece.held == Held::Data {
            let memory = Memory::from(Heap::zeroes(piece.len as usize));
            from.read(at, memory.clone()).await.map_err(source)?;
            write_sparsely(to, at, memory).await.map_err(target)?;
        } else {
            to.zero(at, piece.len, true).await.map_err(target)?;
        }
        done += piece.len;
    }
    Ok(())
}

/// Writes bytes, and as zeroes the pieces that are nothing else: holes of a raw file are read as data.
async fn write_sparsely<S: Storage>(to: &Layer<S>, at: u64, from: Memory) -> Outcome {
    let unit = to.cluster_size().unwrap_or(UNIT);
    let mut done = 0;
    while done < from.len() {
        // Up to the next bound of a unit, then on as long as the units are alike.
        let first = (unit - (at + done) % unit).min(from.len() - done);
        let zero = from.part(done, first).is_zero()?;
        let mut len = first;
        while done + len < from.len() {
            let next = from.part(done + len, unit);
            if next.is_zero()? != zero {
                break;
            }
            len += next.len();
        }
        match zero {
            true => to.zero(at + done, len, true).await?,
            false => to.write(at + done, from.part(done, len)).await?,
        }
        done += len;
    }
    Ok(())
}

/// Futures of one task that go on together.
///
/// They hold ranges that guests wait for, so whoever waits for anything else meanwhile waits
/// [`beside`](Self::beside) them.
pub(super) struct Together<'a, T> {
    under_way: Vec<Pin<Box<dyn Future<Output = T> + 'a>>>,
    /// Of those that were over while something else was waited for.
    outputs: VecDeque<T>,
}

impl<'a, T> Together<'a, T> {
    pub(super) fn new() -> Self {
        Self { under_way: Vec::with_capacity(AT_A_TIME), outputs: VecDeque::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.under_way.len() + self.outputs.len() >= AT_A_TIME
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.outputs.is_empty()
    }

    pub(super) fn add(&mut self, future: impl Future<Output = T> + 'a) {
        self.under_way.push(Box::pin(future));
    }

    /// Waits for one of them; there is at least one.
    pub(super) async fn next(&mut self) -> T {
        std::future::poll_fn(|context| {
            self.drive(context);
            self.outputs.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits for something else, however long that takes, and meanwhile they go on to their ends.
    pub(super) async fn beside<R>(&mut self, other: impl Future<Output = R>) -> R {
        let mut other = pin!(other);
        std::future::poll_fn(|context| {
            self.drive(context);
            other.as_mut().poll(context)
        })
        .await
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        let outputs = &mut self.outputs;
        self.under_way.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(output) => {
                outputs.push_back(output);
                false
            }
            Poll::Pending => true,
        });
    }
}
