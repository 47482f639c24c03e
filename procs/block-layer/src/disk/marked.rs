//! A dirty bitmap of a disk, whoever keeps it: this process, or the image of its top layer.
//!
//! What jobs, exports and other bitmaps take from one is the same for both.

use std::ops::Range;
use std::rc::Rc;

use crate::bitmap::{Bitmap, Bits, Busy};
use crate::qcow2::{Qcow2, Tracked};
use crate::storage::Storage;

/// See the module. Clones are the same bitmap.
#[derive(Debug)]
pub enum Marked<S> {
    /// It is in memory only.
    Memory(Rc<Bitmap>),
    /// It is kept in this image.
    Image(Rc<Qcow2<S>>, Rc<Tracked>),
}

impl<S: Storage> Marked<S> {
    /// A copy of its bits.
    pub fn bits(&self) -> Option<Bits> {
        match self {
            Self::Memory(bitmap) => Some(bitmap.bits()),
            Self::Image(_, tracked) => tracked.bits(),
        }
    }

    /// The first dirty bytes between `from` and `end`, as far as they follow each other; of one in memory whole
    /// pieces, which may begin before.
    pub fn next_dirty(&self, from: u64, end: u64) -> Option<Range<u64>> {
        match self {
            Self::Memory(bitmap) => {
                bitmap.next_dirty(from, u64::MAX).filter(|dirty| dirty.start < end)
            }
            Self::Image(_, tracked) => tracked.next_dirty(from, end),
        }
    }

    /// A job uses it from now on: it is refused to others, and nothing is taken out of it.
    pub fn claim(&self) -> Result<(), Busy> {
        match self {
            Self::Memory(bitmap) => bitmap.claim(),
            Self::Image(_, tracked) => tracked.claim(),
        }
    }

    /// The moment of that job, for which the disk is drained: what it copies.
    pub fn begin(&self) -> Option<Bits> {
        match self {
            Self::Memory(bitmap) => Some(bitmap.begin()),
            Self::Image(_, tracked) => tracked.begin(),
        }
    }

    /// The job has copied everything but for what is in `left`. An image is told as well; what it does not learn it
    /// still has as dirty, which is copied once more and nothing worse.
    pub async fn renew(&self, left: Option<&Bits>) {
        match self {
            Self::Memory(bitmap) => bitmap.renew(left),
            Self::Image(image, tracked) => {
                tracked.renew(left);
                let _dirty_still = image.store_bitmaps().await;
            }
        }
    }

    /// The job does not use it any more.
    pub fn release(&self) {
        match self {
            Self::Memory(bitmap) => bitmap.release(),
            Self::Image(_, tracked) => tracked.release(),
        }
    }
}
