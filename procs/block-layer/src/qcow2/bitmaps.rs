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
//! Absent on purpose: bitmaps of disks without an image. They are a [`Bitmap`](crate::bitmap::Bitmap) of
//! who wants one.

mod directory;
mod kept;
mod store;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use super::Qcow2;
use crate::bitmap::{Bits, Busy, LEAST_GRANULARITY, MOST_GRANULARITY, Marks};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

use directory::Entry;
pub(super) use kept::Inherited;
use store::as_they_are;

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
    /// A job that copies what it says.
    #[error("a job uses the bitmap '{0}'; wait until it has ended, or cancel it")]
    Busy(String),
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
    marks: RefCell<Option<Marks>>,
    /// What was set since the file has been told, at most so many ranges.
    since: RefCell<Bits>,
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

    /// Whether its bits are in memory.
    fn is_loaded(&self) -> bool {
        self.marks.borrow().is_some()
    }

    /// Whether its bits are right; one whose are not can only be removed.
    pub fn is_consistent(&self) -> bool {
        self.is_loaded() || !self.is_in_use()
    }

    /// Bytes that are dirty.
    pub fn dirty_bytes(&self) -> u64 {
        self.marks.borrow().as_ref().map_or(0, |marks| marks.bits().dirty_bytes())
    }

    /// The first dirty bytes between `from` and `end`, as far as they follow each other.
    pub fn next_dirty(&self, from: u64, end: u64) -> Option<Range<u64>> {
        self.marks.borrow().as_ref()?.bits().next_dirty(from, end)
    }

    /// A copy of the bits as they are.
    pub fn bits(&self) -> Option<Bits> {
        self.marks.borrow().as_ref().map(|marks| marks.bits().clone())
    }

    /// Whether a job uses it: then nothing is taken out of it.
    pub fn is_busy(&self) -> bool {
        self.marks.borrow().as_ref().is_some_and(Marks::is_busy)
    }

    /// See [`Marks::claim`]; its bits are in memory.
    pub fn claim(&self) -> Result<(), Busy> {
        self.marks.borrow_mut().as_mut().map_or(Err(Busy), Marks::claim)
    }

    /// See [`Marks::begin`].
    pub fn begin(&self) -> Option<Bits> {
        self.marks.borrow_mut().as_mut().map(Marks::begin)
    }

    /// See [`Marks::renew`]. The image is to be told: [`Qcow2::store_bitmaps`].
    pub fn renew(&self, left: Option<&Bits>) {
        if let Some(marks) = &mut *self.marks.borrow_mut() {
            marks.renew(left);
            self.changed.set(true);
        }
    }

    /// See [`Marks::release`].
    pub fn release(&self) {
        if let Some(marks) = &mut *self.marks.borrow_mut() {
            marks.release();
        }
    }

    /// Changes the bits otherwise than by writes of the disk.
    fn change(&self, change: impl FnOnce(&mut Bits)) {
        if let Some(marks) = &mut *self.marks.borrow_mut() {
            change(marks.bits_mut());
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
        bitmaps.iter().any(|bitmap| bitmap.is_enabled() && bitmap.is_loaded())
    }

    /// Whether it is not written.
    pub fn is_read_only(&self) -> bool {
        self.options.read_only
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
        if !bitmap.is_loaded() {
            let bits = self.read_bits(&bitmap).await.map_err(|_| Failure::IO)?;
            *bitmap.marks.borrow_mut() = Some(bits.into());
        }
        Ok(bitmap)
    }

    /// The same of one that is to be changed: no job uses it.
    async fn idle_bitmap(&self, name: &str) -> Result<Rc<Tracked>, BitmapError> {
        let bitmap = self.bitmap_bits(name).await?;
        match bitmap.is_busy() {
            true => Err(BitmapError::Busy(name.to_owned())),
            false => Ok(bitmap),
        }
    }

    /// The name of a bitmap that a job uses.
    pub fn busy_bitmap(&self) -> Option<String> {
        let bitmaps = self.bitmaps.borrow();
        bitmaps.iter().find(|bitmap| bitmap.is_busy()).map(|bitmap| bitmap.name.clone())
    }

    /// Writes the bits as they are, so that a successor and others find them.
    pub async fn store_bitmaps(&self) -> Outcome {
        self.store(as_they_are, true).await
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
        let bitmaps = self.bitmaps();
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
        let bits = Bits::new(self.size(), granularity);
        let added = Rc::new(Tracked {
            name: name.to_owned(),
            entry: RefCell::new(Entry::new(name, granularity)),
            since: RefCell::new(bits.clone()),
            marks: RefCell::new(Some(bits.into())),
            enabled: Cell::new(enabled),
            changed: Cell::new(true),
        });
        Ok(self.store(|bitmaps| bitmaps.push(added), true).await?)
    }

    /// Removes a bitmap, an inconsistent one too.
    pub async fn bitmap_remove(&self, name: &str) -> Result<(), BitmapError> {
        let gone = self.bitmap(name)?;
        if gone.is_busy() {
            return Err(BitmapError::Busy(name.to_owned()));
        }
        let stays = |bitmap: &Rc<Tracked>| !Rc::ptr_eq(bitmap, &gone);
        Ok(self.store(|bitmaps| bitmaps.retain(stays), true).await?)
    }

    /// Everything is clean.
    pub async fn bitmap_clear(&self, name: &str) -> Result<(), BitmapError> {
        let bitmap = self.idle_bitmap(name).await?;
        bitmap.change(|bits| bits.clear(0, self.size()));
        Ok(self.store(as_they_are, true).await?)
    }

    /// Whether writes are recorded from now on.
    pub async fn bitmap_enable(&self, name: &str, enabled: bool) -> Result<(), BitmapError> {
        let bitmap = self.idle_bitmap(name).await?;
        bitmap.enabled.set(enabled);
        Ok(self.store(as_they_are, true).await?)
    }

    /// What is dirty in `other`, a bitmap of a disk of this size, is dirty in this one too.
    pub async fn bitmap_merge(&self, name: &str, other: &Bits) -> Result<(), BitmapError> {
        let bitmap = self.idle_bitmap(name).await?;
        if other.size() != self.size() {
            return Err(BitmapError::Size(other.size()));
        }
        bitmap.change(|bits| bits.merge(other));
        Ok(self.store(as_they_are, true).await?)
    }
}
