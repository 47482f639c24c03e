//! Another version, another width of counts, other features, of an image that nobody else uses.
//!
//! Only for tools: each takes the image and shuts it, because an open image has one version and one
//! geometry; it is opened anew afterwards. What cannot be changed without rewriting the clusters (their size,
//! subclusters, the compression, an external data file) is refused by the caller: converting does it.

use super::entry::{Granules, Mapping};
use super::geometry::OFFSET;
use super::header::compatible;
use super::shadow::Shadow;
use super::{Qcow2, Snapshot};
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// Why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmendError {
    /// Something that version 2 does not have.
    #[error("compat=0.10: {0}")]
    Downgrade(&'static str),
    /// Something that only version 3 has.
    #[error("{0}: it needs compat=1.1")]
    Old(&'static str),
    /// A width that does not exist, or is too narrow.
    #[error("refcount_bits={0}: {1}")]
    Counts(u32, &'static str),
    /// The host refused.
    #[error("{0}")]
    Host(#[from] Failure),
}

/// What is to become of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Version 2 becomes version 3.
    Upgrade,
    /// Version 3 becomes version 2.
    Downgrade,
    /// The lazy-refcounts feature.
    LazyRefcounts(bool),
    /// Bits of a refcount.
    RefcountBits(u32),
}

impl<S: Storage> Qcow2<S> {
    /// Makes the change, and shuts the image.
    pub async fn amend(self, change: Change) -> Result<(), AmendError> {
        let done = match change {
            Change::Upgrade => self.upgrade().await,
            Change::Downgrade => self.downgrade().await,
            Change::LazyRefcounts(on) => self.set_lazy_refcounts(on).await,
            Change::RefcountBits(bits) => self.set_refcount_bits(bits).await,
        };
        let shut = self.shut().await;
        done?;
        Ok(shut?)
    }

    async fn upgrade(&self) -> Result<(), AmendError> {
        if self.version > 2 {
            return Ok(());
        }
        let mut shadow = Shadow::begin(self).await?;
        // Version 3 wants to know how large the disk was.
        let size = self.size();
        let snapshots: Vec<Snapshot> =
            self.snapshots().into_iter().map(|snapshot| snapshot.with_size(size)).collect();
        if !snapshots.is_empty() {
            self.set_snapshots(&mut shadow, &snapshots).await?;
        }
        shadow.header.version = 3;
        shadow.header.bytes = super::header::OWN_BYTES as u32;
        Ok(shadow.finish().await?)
    }

    /// Version 3 becomes version 2, if it has nothing that version 2 has not. Zeroes that hide something
    /// below are written out.
    async fn downgrade(&self) -> Result<(), AmendError> {
        if self.version < 3 {
            return Ok(());
        }
        let header = self.header();
        let reasons = [
            (header.geometry.refcount_order != 4, "it needs refcount_bits=16"),
            (header.incompatible != 0, "the image has features that version 2 does not have"),
            (header.has_bitmaps(), "the image has bitmaps; remove them"),
            (header.snapshots > 0, "the image has internal snapshots; delete them"),
        ];
        if let Some((_, reason)) = reasons.into_iter().find(|(prevents, _)| *prevents) {
            return Err(AmendError::Downgrade(reason));
        }
        self.write_out_zeroes().await?;
        let mut shadow = Shadow::begin(self).await?;
        shadow.header.version = 2;
        (shadow.header.compatible, shadow.header.autoclear) = (0, 0);
        shadow.header.bytes = 72;
        Ok(shadow.finish().await?)
    }

    /// The lazy-refcounts feature. Nothing is ever lazy here: it is for others who write the image.
    async fn set_lazy_refcounts(&self, on: bool) -> Result<(), AmendError> {
        if self.version < 3 && on {
            return Err(AmendError::Old("lazy_refcounts"));
        }
        let _alone = self.alone().await?;
        let mut header = self.header();
        header.compatible &= !compatible::LAZY_REFCOUNTS;
        if on {
            header.compatible |= compatible::LAZY_REFCOUNTS;
        }
        Ok(self.switch(&header).await?)
    }

    /// Counts of another width.
    async fn set_refcount_bits(&self, bits: u32) -> Result<(), AmendError> {
        if !bits.is_power_of_two() || bits > 64 {
            return Err(AmendError::Counts(bits, "give a power of two up to 64"));
        }
        if self.version < 3 && bits != 16 {
            return Err(AmendError::Old("refcount_bits"));
        }
        let order = bits.trailing_zeros();
        if order == self.geometry.refcount_order {
            return Ok(());
        }
        let shadow = Shadow::recount(self, order).await.map_err(|failure| match failure {
            Failure::TOO_LARGE => {
                AmendError::Counts(bits, "clusters are used more often than that can say")
            }
            failure => failure.into(),
        })?;
        Ok(shadow.finish().await?)
    }

    /// Version 2 has no entries that say zero: where nothing lies below, they are taken away, elsewhere
    /// zeroes are written.
    async fn write_out_zeroes(&self) -> Outcome {
        let below = self.header().backing.is_some();
        let (bits, size) = (self.geometry.cluster_bits, self.size());
        let entries = self.geometry.entries();
        let tables = self.state.borrow().l1.clone();
        let there = tables.iter().enumerate().filter(|(_, entry)| **entry & OFFSET != 0);
        for (index, _) in there {
            let first = index as u64 * entries;
            for cluster in first..first + entries {
                let old = self.mapping(cluster).await?;
                let Mapping::Plain(Granules { zero: 1.., .. }) = old else {
                    continue;
                };
                // What lies behind the end of the disk hides nothing.
                let at = cluster << bits;
                if below && at < size {
                    let len = self.geometry.cluster().min(size - at);
                    self.write(at, Memory::from(Heap::zeroes(len as usize))).await?;
                    continue;
                }
                let _op = self.begin().await;
                self.make_room().await?;
                self.own_table(cluster).await?;
                self.put(cluster, Mapping::Plain(Granules::default())).await?;
                self.release_mapping(old, None);
            }
        }
        self.flush().await
    }

    /// Nothing is the image's own any more: everything is as it is below.
    pub async fn make_empty(&self) -> Outcome {
        let mut shadow = Shadow::begin(self).await?;
        let entries = self.state.borrow().l1.len() as u64;
        shadow.count_tree(&self.l1_in_use(), false).await?;
        shadow.set_l1(Vec::new(), entries).await?;
        shadow.finish().await
    }
}
