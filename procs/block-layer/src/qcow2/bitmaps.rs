//! Persistent dirty bitmaps: which parts of the disk were written since somebody last asked.
//!
//! ```text
//! open    all bits come into memory; in the file every bitmap is marked as in use
//! write   the bits of what was written are set (in memory, and in the journal)
//! shut    all bits go to the file, beside the old ones (shadow), and the marks are gone
//! ```
//!
//! A bitmap that is marked as in use when the image is opened was not shut: its bits are too few, so it
//! is **inconsistent**, is not used, and can only be removed. This is what a crash of the host leaves.
//! The death of the process alone loses nothing: the journal has what was set since the bits were read,
//! coarser where it is much ([`kept`]), and a successor adds it.
//!
//! Law: a bit is set before the write is answered. What is not known is dirty.
//! Absent on purpose: bitmaps of disks without an image. They are a [`Bitmap`] of who wants one.

mod directory;
mod kept;
mod store;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use super::Qcow2;
use crate::bitmap::{Bitmap, LEAST_GRANULARITY, MOST_GRANULARITY};
use crate::outcome::Failure;
use crate::storage::Storage;

use directory::Entry;
pub(super) use kept::Inherited;

/// Longest name, as in QEMU.
const LONGEST_NAME: usize = 1023;

/// Most bitmaps of an image, as in QEMU.
const MOST: usize = 65535;

/// Most granules of all bitmaps of an image together.
const MOST_GRANULES: u64 = 1 << 32;

/// Why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// No such bitmap.
    #[error("there is no bitmap '{0}'")]
    Missing(String),
    /// One of that name.
    #[error("there is a bitmap '{0}' already")]
    Exists(String),
    /// A name that no bitmap can have.
    #[error("a bitmap's name has 1 to 1023 bytes")]
    Name,
    /// A granularity that no bitmap can have.
    #[error("a granularity of {0} bytes; give a power of two between 512 and 2G")]
    Granularity(u64),
    /// Bits that would not fit into memory.
    #[error("a granularity of {0} bytes is too fine for this disk; give a larger one")]
    TooFine(u64),
    /// As many as there can be.
    #[error("the image has {MOST} bitmaps; remove one")]
    TooMany,
    /// An image that was not shut.
    #[error("the bitmap '{0}' is inconsistent: the image was not closed; it can only be removed")]
    Inconsistent(String),
    /// Two disks.
    #[error("a bitmap of a disk of {0} bytes; this one has another size")]
    Size(u64),
    /// An old image.
    #[error("version 2 images cannot have bitmaps; amend it with compat=1.1")]
    Old,
    /// The host refused.
    #[error("{0}")]
    Host(#[from] Failure),
}

/// A bitmap of an open image. Places and lengths are bytes of the disk.
#[derive(Debug)]
pub struct Tracked {
    name: String,
    /// As it is in the file.
    entry: RefCell<Entry>,
    /// `None`: inconsistent, or not read because nothing is written.
    bits: RefCell<Option<Bitmap>>,
    /// What was set since the file has been told, at most so many ranges.
    since: RefCell<Bitmap>,
    enabled: Cell<bool>,
    /// The file has other bits.
    changed: Cell<bool>,
}

impl Tracked {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of a granule.
    pub fn granularity(&self) -> u64 {
        self.entry.borrow().granularity()
    }

    /// Whether writes are recorded.
    pub fn is_enabled(&self) -> bool {
        self.enabled.get()
    }

    /// Whether the file says that somebody uses it.
    pub fn is_in_use(&self) -> bool {
        self.entry.borrow().is_in_use()
    }

    /// Whether its bits are right; one whose are not can only be removed.
    pub fn is_consistent(&self) -> bool {
        self.bits.borrow().is_some() || !self.is_in_use()
    }

    /// Bytes that are dirty.
    pub fn dirty_bytes(&self) -> u64 {
        self.bits.borrow().as_ref().map_or(0, Bitmap::dirty_bytes)
    }

    /// The first dirty bytes between `from` and `end`, as far as they follow each other.
    pub fn next_dirty(&self, from: u64, end: u64) -> Option<Range<u64>> {
        self.bits.borrow().as_ref()?.next_dirty(from, end)
    }

    /// A copy of the bits as they are.
    pub fn bits(&self) -> Option<Bitmap> {
        self.bits.borrow().clone()
    }

    /// The granules that lie wholly in the range are clean: an incremental backup has them.
    pub fn clear(&self, at: u64, len: u64) {
        if let Some(bits) = &mut *self.bits.borrow_mut() {
            bits.clear(at, len);
            self.changed.set(true);
        }
    }
}

impl<S: Storage> Qcow2<S> {
    /// Its bitmaps, in the order of their directory.
    pub fn bitmaps(&self) -> Vec<Rc<Tracked>> {
        self.bitmaps.borrow().clone()
    }

    /// Whether writes are recorded in a bitmap: then nobody may write past the image.
    pub fn is_recording(&self) -> bool {
        let bitmaps = self.bitmaps.borrow();
        bitmaps.iter().any(|bitmap| bitmap.is_enabled() && bitmap.bits.borrow().is_some())
    }

    /// The bitmap of that name.
    pub fn bitmap(&self, name: &str) -> Result<Rc<Tracked>, BitmapError> {
        let bitmaps = self.bitmaps.borrow();
        let found = bitmaps.iter().find(|bitmap| bitmap.name == name);
        found.cloned().ok_or_else(|| BitmapError::Missing(name.to_owned()))
    }

    /// A bitmap that may be used, with its bits in memory.
    pub async fn bitmap_bits(&self, name: &str) -> Result<Rc<Tracked>, BitmapError> {
        let bitmap = self.bitmap(name)?;
        if !bitmap.is_consistent() {
            return Err(BitmapError::Inconsistent(name.to_owned()));
        }
        if bitmap.bits.borrow().is_none() {
            let bits = self.read_bits(&bitmap).await.map_err(|_| Failure::IO)?;
            *bitmap.bits.borrow_mut() = Some(bits);
        }
        Ok(bitmap)
    }

    /// The granularity of bitmaps for which none was given, as in QEMU: a cluster, 4K to 64K.
    pub fn usual_granularity(&self) -> u64 {
        self.cluster_size().clamp(4096, 65536)
    }

    /// Adds a clear bitmap.
    pub async fn bitmap_add(
        &self,
        name: &str,
        granularity: u64,
        enabled: bool,
    ) -> Result<(), BitmapError> {
        if self.version < 3 {
            return Err(BitmapError::Old);
        }
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(BitmapError::Name);
        }
        let possible = LEAST_GRANULARITY..=MOST_GRANULARITY;
        if !granularity.is_power_of_two() || !possible.contains(&granularity) {
            return Err(BitmapError::Granularity(granularity));
        }
        let mut bitmaps = self.bitmaps();
        if bitmaps.iter().any(|bitmap| bitmap.name == name) {
            return Err(BitmapError::Exists(name.to_owned()));
        }
        if bitmaps.len() >= MOST {
            return Err(BitmapError::TooMany);
        }
        let had = bitmaps.iter().map(|other| self.size().div_ceil(other.granularity()));
        if had.sum::<u64>() + self.size().div_ceil(granularity) > MOST_GRANULES {
            return Err(BitmapError::TooFine(granularity));
        }
        let bits = Bitmap::new(self.size(), granularity);
        bitmaps.push(Rc::new(Tracked {
            name: name.to_owned(),
            entry: RefCell::new(Entry::new(name, granularity)),
            since: RefCell::new(bits.clone()),
            bits: RefCell::new(Some(bits)),
            enabled: Cell::new(enabled),
            changed: Cell::new(true),
        }));
        Ok(self.store(bitmaps, true).await?)
    }

    /// Removes a bitmap, an inconsistent one too.
    pub async fn bitmap_remove(&self, name: &str) -> Result<(), BitmapError> {
        let gone = self.bitmap(name)?;
        let others = self.bitmaps().into_iter().filter(|bitmap| !Rc::ptr_eq(bitmap, &gone));
        Ok(self.store(others.collect(), true).await?)
    }

    /// Everything is clean.
    pub async fn bitmap_clear(&self, name: &str) -> Result<(), BitmapError> {
        let bitmap = self.bitmap_bits(name).await?;
        bitmap.clear(0, self.size());
        Ok(self.store(self.bitmaps(), true).await?)
    }

    /// Whether writes are recorded from now on.
    pub async fn bitmap_enable(&self, name: &str, enabled: bool) -> Result<(), BitmapError> {
        let bitmap = self.bitmap_bits(name).await?;
        bitmap.enabled.set(enabled);
        Ok(self.store(self.bitmaps(), true).await?)
    }

    /// What is dirty in `other`, a bitmap of a disk of this size, is dirty in this one too.
    pub async fn bitmap_merge(&self, name: &str, other: &Bitmap) -> Result<(), BitmapError> {
        let bitmap = self.bitmap_bits(name).await?;
        if other.size() != self.size() {
            return Err(BitmapError::Size(other.size()));
        }
        if let Some(bits) = &mut *bitmap.bits.borrow_mut() {
            bits.merge(other);
        }
        bitmap.changed.set(true);
        Ok(self.store(self.bitmaps(), true).await?)
    }
}
