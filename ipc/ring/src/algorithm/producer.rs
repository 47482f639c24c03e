//! The end that fills slots.

use super::atomics::{Ordering, fence};
use super::fault::{Index, PeerFault, PushError};
use super::lines::Lines;

/// Whether the consumer sleeps and must be woken.
#[must_use = "a consumer that sleeps and is not woken sleeps for ever"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Ring its doorbell, once, before waiting for anything.
    Needed,
    /// It is awake or has been rung for already.
    NotNeeded,
}

/// Fills slots and publishes them.
///
/// Invariant: `head <= published <= tail <= head + slots` on the circle of 32 bits.
#[derive(Debug)]
pub(crate) struct RawProducer<L> {
    lines: L,
    /// Entries pushed. The copy in shared memory is for the peer and is never read back.
    tail: u32,
    /// Entries pushed that the consumer has been shown.
    published: u32,
    /// The consumer's index at the last look.
    head: u32,
}

impl<L: Lines> RawProducer<L> {
    /// The producer of a ring that nobody has used yet.
    pub(crate) fn new(lines: L) -> Self {
        Self { lines, tail: 0, published: 0, head: 0 }
    }

    /// Slots that can be filled now. Looks at the consumer's index only if it knows of none.
    #[inline]
    pub(crate) fn room(&mut self) -> Result<u32, PeerFault> {
        let known = self.known_room();
        if known > 0 {
            return Ok(known);
        }
        // Acquire: the consumer's reads of a slot come before our next writes to it. It cannot have
        // taken more than was published.
        let now = self.lines.head().load(Ordering::Acquire);
        let most = self.published.wrapping_sub(self.head);
        self.head = PeerFault::look(Index::Head, self.head, now, most)?;
        Ok(self.known_room())
    }

    fn known_room(&self) -> u32 {
        self.lines.slots() - self.tail.wrapping_sub(self.head)
    }

    /// Fills the next slot. The consumer sees it after [`publish`](Self::publish).
    #[inline]
    pub(crate) fn push(&mut self, words: impl IntoIterator<Item = u64>) -> Result<(), PushError> {
        if self.room()? == 0 {
            return Err(PushError::Full);
        }
        for (place, word) in words.into_iter().enumerate() {
            self.lines.write(self.tail, place, word);
        }
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Shows all pushed entries to the consumer.
    #[inline]
    pub(crate) fn publish(&mut self) -> Wake {
        if self.published == self.tail {
            return Wake::NotNeeded;
        }
        self.published = self.tail;
        self.lines.tail().store(self.tail, Ordering::Release);
        // Store tail, then look at armed: pairs with the fence in `RawConsumer::arm`.
        fence(Ordering::SeqCst);
        if self.lines.armed().load(Ordering::Relaxed) == 0 {
            return Wake::NotNeeded;
        }
        // Cleared here so that the entries published until it runs ring no more. Whoever clears it
        // rings afterwards, so a consumer that arms again meanwhile is woken all the same.
        self.lines.armed().store(0, Ordering::Relaxed);
        Wake::Needed
    }
}
