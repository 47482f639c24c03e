//! The end that takes entries.

use super::atomics::{Ordering, fence};
use super::fault::{Index, PeerFault};
use super::lines::Lines;

/// What a consumer that wanted to sleep may do.
#[must_use = "a consumer that sleeps on `Again` may sleep for ever"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Armed {
    /// Nothing is there, and the producer will ring: wait for the doorbell.
    Sleep,
    /// Something came meanwhile: take it, the flag is down again.
    Again,
}

/// Takes entries and gives the slots back.
///
/// Invariant: `head <= tail <= head + slots` on the circle of 32 bits.
#[derive(Debug)]
pub(crate) struct RawConsumer<L> {
    lines: L,
    /// Entries taken. The copy in shared memory is for the peer and is never read back.
    head: u32,
    /// The producer's index at the last look.
    tail: u32,
}

impl<L: Lines> RawConsumer<L> {
    /// The consumer of a ring that nobody has used yet.
    pub(crate) fn new(lines: L) -> Self {
        Self { lines, head: 0, tail: 0 }
    }

    /// Whether an entry is there. Looks at the producer's index only if it knows of none.
    #[inline]
    pub(crate) fn ready(&mut self) -> Result<bool, PeerFault> {
        if self.tail == self.head {
            // Acquire: the producer's stores to the slots come before our reads. It cannot have
            // filled more slots than there are.
            let now = self.lines.tail().load(Ordering::Acquire);
            self.tail = PeerFault::look(Index::Tail, self.head, now, self.lines.slots())?;
        }
        Ok(self.tail != self.head)
    }

    /// Takes the next entry, word by word, once; `false` if there is none.
    #[inline]
    pub(crate) fn pop<'w>(
        &mut self,
        words: impl IntoIterator<Item = &'w mut u64>,
    ) -> Result<bool, PeerFault> {
        if !self.ready()? {
            return Ok(false);
        }
        for (place, word) in words.into_iter().enumerate() {
            *word = self.lines.read(self.head, place);
        }
        self.head = self.head.wrapping_add(1);
        // Release: the slot is read before the producer may fill it again.
        self.lines.head().store(self.head, Ordering::Release);
        Ok(true)
    }

    /// Says that this end is about to sleep and looks once more.
    pub(crate) fn arm(&mut self) -> Result<Armed, PeerFault> {
        self.lines.armed().store(1, Ordering::Relaxed);
        // Store armed, then look at tail: pairs with the fence in `RawProducer::publish`.
        fence(Ordering::SeqCst);
        match self.ready() {
            Ok(false) => Ok(Armed::Sleep),
            Ok(true) => {
                self.disarm();
                Ok(Armed::Again)
            }
            Err(fault) => {
                self.disarm();
                Err(fault)
            }
        }
    }

    /// Says that this end is awake; it need not be rung.
    pub(crate) fn disarm(&mut self) {
        self.lines.armed().store(0, Ordering::Relaxed);
    }
}
