//! When links between pages become stale: numbers that each link carries, and that change with what it
//! relied on.
//!
//! A link to a global page holds in all address spaces, any other in the space where it was made: coming
//! back to a space finds its links as they were. The pages that links lead to are noted, roughly, so
//! that a page that none leads to can be dropped without touching any.

use super::Blocks;
use crate::memory::SPACES;
use crate::memory::ram::PAGE;

/// Pages that links lead to, by the low bits of their numbers.
type Reached = [u64; 64];

/// The numbers of all spaces.
#[derive(Debug)]
pub(super) struct Epochs {
    /// The last one given.
    last: u64,
    spaces: [u64; SPACES],
    /// The present space.
    space: usize,
    reached: [Reached; SPACES],
    reached_global: Reached,
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            last: 1,
            spaces: [0; SPACES],
            space: 0,
            reached: [[0; 64]; SPACES],
            reached_global: [0; 64],
        }
    }
}

/// Word and bit of a page.
fn place(linear: u64) -> (usize, u64) {
    let page = linear / PAGE % 4096;
    ((page / 64) as usize, 1 << (page % 64))
}

impl Blocks {
    /// The number for a link to `linear`, which is noted.
    pub(super) fn epoch_for(&mut self, linear: u64, is_global: bool) -> u64 {
        let (word, bit) = place(linear);
        let epochs = &mut self.epochs;
        if is_global {
            epochs.reached_global[word] |= bit;
            return self.global_epoch;
        }
        epochs.reached[epochs.space][word] |= bit;
        self.far_epoch
    }

    fn fresh(&mut self) -> u64 {
        self.epochs.last += 1;
        self.epochs.last
    }

    /// Space `number` is the present one from now on.
    pub(crate) fn enter_space(&mut self, number: usize) {
        self.epochs.space = number;
        self.far_epoch = self.epochs.spaces[number];
    }

    /// Number of the present space.
    pub(crate) fn space(&self) -> usize {
        self.epochs.space
    }

    /// Links made in space `number` are stale.
    pub(crate) fn drop_links_of(&mut self, number: usize) {
        self.epochs.spaces[number] = self.fresh();
        self.epochs.reached[number] = [0; 64];
        self.far_epoch = self.epochs.spaces[self.epochs.space];
    }

    /// Links to all but global pages are stale.
    pub(crate) fn drop_local_links(&mut self) {
        (0..SPACES).for_each(|number| self.drop_links_of(number));
    }

    /// All links between pages are stale.
    pub(crate) fn drop_all_links(&mut self) {
        self.drop_local_links();
        self.global_epoch = self.fresh();
        self.epochs.reached_global = [0; 64];
    }

    /// Links to the page of `linear` from the present space, and to global pages, are stale.
    pub(crate) fn drop_links_to(&mut self, linear: u64) {
        let (word, bit) = place(linear);
        if self.epochs.reached[self.epochs.space][word] & bit != 0 {
            self.drop_links_of(self.epochs.space);
        }
        if self.epochs.reached_global[word] & bit != 0 {
            self.global_epoch = self.fresh();
            self.epochs.reached_global = [0; 64];
        }
    }
}
