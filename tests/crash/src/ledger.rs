//! The book of one queue's blocks: what was written, what was acknowledged, what a read must show.
//!
//! A block has at most one request in flight, since the order of two is nobody's promise. So at any
//! read there is exactly one generation that may be seen: the last acknowledged one.

use crate::stamp::{BLOCK, Corrupt, Stamp};

/// What a disk did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The block is neither of its generations.
    #[error("block {number} is corrupt: {corrupt}")]
    Corrupt {
        /// Which.
        number: u64,
        /// How.
        corrupt: Corrupt,
    },
    /// Another block's content.
    #[error("block {number} holds block {found}")]
    Misplaced {
        /// Which.
        number: u64,
        /// Whose content it holds.
        found: u64,
    },
    /// An older generation: an acknowledged write was lost, or a stale one landed late.
    #[error("block {number} holds generation {found}, {acknowledged} was acknowledged")]
    Stale {
        /// Which.
        number: u64,
        /// What it holds.
        found: u64,
        /// What it must hold.
        acknowledged: u64,
    },
    /// A generation that was not acknowledged, or never written.
    #[error("block {number} holds generation {found}, but only {acknowledged} were acknowledged")]
    Early {
        /// Which.
        number: u64,
        /// What it holds.
        found: u64,
        /// What it must hold.
        acknowledged: u64,
    },
    /// A request failed.
    #[error("a request for block {number} failed: {status}")]
    Error {
        /// Which.
        number: u64,
        /// How.
        status: String,
    },
    /// Nothing was completed for a very long time.
    #[error("the disk keeps silent with {0} requests in flight")]
    Silent(u16),
    /// The queue itself broke.
    #[error("queue: {0}")]
    Queue(String),
}

/// The book.
#[derive(Debug)]
pub struct Ledger {
    /// Number of the first block, and the distance to the next one.
    first: u64,
    step: u64,
    acknowledged: Vec<u64>,
}

impl Ledger {
    /// The book of `count` blocks: `first`, `first + step`, …, none of which was written.
    pub fn new(first: u64, step: u64, count: usize) -> Self {
        Self { first, step, acknowledged: vec![0; count] }
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.acknowledged.is_empty()
    }

    /// Number of the block at `place`.
    pub fn number(&self, place: usize) -> u64 {
        self.first + self.step * place as u64
    }

    /// What the next write of the block at `place` is to carry.
    pub fn next(&self, place: usize) -> Stamp {
        Stamp { number: self.number(place), generation: self.acknowledged[place] + 1 }
    }

    /// The write of [`next`](Self::next) was acknowledged.
    pub fn acknowledge(&mut self, place: usize) {
        self.acknowledged[place] += 1;
    }

    /// Judges what the block at `place` holds while no write of it is in flight.
    pub fn judge(&self, place: usize, block: &[u8; BLOCK]) -> Result<(), Fault> {
        let (number, acknowledged) = (self.number(place), self.acknowledged[place]);
        let stamp =
            Stamp::of(block, number).map_err(|corrupt| Fault::Corrupt { number, corrupt })?;
        let found = stamp.generation;
        if stamp.number != number {
            return Err(Fault::Misplaced { number, found: stamp.number });
        }
        match found.cmp(&acknowledged) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(Fault::Stale { number, found, acknowledged }),
            std::cmp::Ordering::Greater => Err(Fault::Early { number, found, acknowledged }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, generation: u64) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        Stamp { number, generation }.fill(&mut block);
        block
    }

    #[test]
    fn the_acknowledged_generation_passes_and_every_other_is_named() {
        let mut ledger = Ledger::new(1, 2, 4);
        assert_eq!(ledger.judge(3, &[0; BLOCK]), Ok(()));
        ledger.acknowledge(3);
        ledger.acknowledge(3);
        assert_eq!(ledger.judge(3, &block(7, 2)), Ok(()));
        let stale = Fault::Stale { number: 7, found: 1, acknowledged: 2 };
        assert_eq!(ledger.judge(3, &block(7, 1)), Err(stale));
        let lost = Fault::Stale { number: 7, found: 0, acknowledged: 2 };
        assert_eq!(ledger.judge(3, &[0; BLOCK]), Err(lost));
        let early = Fault::Early { number: 7, found: 3, acknowledged: 2 };
        assert_eq!(ledger.judge(3, &block(7, 3)), Err(early));
        let misplaced = Fault::Misplaced { number: 7, found: 5 };
        assert_eq!(ledger.judge(3, &block(5, 2)), Err(misplaced));
    }
}
