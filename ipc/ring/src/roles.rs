//! The two roles as types, over entries and a mapping.

use std::marker::PhantomData;

use bulkhead_sys::eventfd::Doorbell;

use crate::algorithm::{Armed, PeerFault, PushError, RawConsumer, RawProducer, SLOT_WORDS, Wake};
use crate::entry::{Entry, from_words, to_words};
use crate::mapped::MappedLines;

/// The only end of a ring that fills slots.
#[derive(Debug)]
pub struct Producer<E> {
    raw: RawProducer<MappedLines>,
    entries: PhantomData<fn(E)>,
}

impl<E: Entry> Producer<E> {
    pub(crate) fn new(lines: MappedLines) -> Self {
        Self { raw: RawProducer::new(lines), entries: PhantomData }
    }

    /// Fills the next slot. The consumer sees it after [`publish`](Self::publish): push a batch,
    /// publish once.
    #[inline]
    pub fn push(&mut self, entry: E) -> Result<(), PushError> {
        self.raw.push(to_words(&entry))
    }

    /// A number of slots that can be filled now; 0 if the ring is full.
    #[inline]
    pub fn room(&mut self) -> Result<u32, PeerFault> {
        self.raw.room()
    }

    /// Shows all pushed entries to the consumer. [`Wake::ring`] the doorbell as it says.
    #[inline]
    pub fn publish(&mut self) -> Wake {
        self.raw.publish()
    }
}

/// The only end of a ring that takes entries.
#[derive(Debug)]
pub struct Consumer<E> {
    raw: RawConsumer<MappedLines>,
    entries: PhantomData<fn() -> E>,
}

impl<E: Entry> Consumer<E> {
    pub(crate) fn new(lines: MappedLines) -> Self {
        Self { raw: RawConsumer::new(lines), entries: PhantomData }
    }

    /// Takes the next entry: a private copy, to be validated. `None` if there is none now.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<E>, PeerFault> {
        let mut words = [0; SLOT_WORDS];
        let taken = self.raw.pop(words.iter_mut().take(E::WORDS))?;
        Ok(taken.then(|| from_words(&words)))
    }

    /// Whether an entry is there, without taking it.
    #[inline]
    pub fn ready(&mut self) -> Result<bool, PeerFault> {
        self.raw.ready()
    }

    /// Says that this end is about to sleep, and looks once more.
    pub fn arm(&mut self) -> Result<Armed, PeerFault> {
        self.raw.arm()
    }

    /// After the sleep, whatever ended it: says that this end is awake and need not be rung.
    pub fn disarm(&mut self) {
        self.raw.disarm();
    }
}

impl Wake {
    /// Rings if it is needed. For a process that nobody else waits for.
    pub fn ring(self, peer: &Doorbell) {
        if self == Wake::Needed {
            peer.ring();
        }
    }

    /// Rings if it is needed and cannot block. For a process that others depend on (the block layer):
    /// a hostile peer may have filled the counter.
    pub fn ring_if_quiet(self, peer: &Doorbell) {
        if self == Wake::Needed {
            peer.ring_if_quiet();
        }
    }
}
