//! Where clusters of an image are, for lanes: those that are written in place.
//!
//! The executor enters a cluster after it has served a request there; lanes look. It is a cache: each
//! cluster has one slot, and another one may take it. A slot is one word, so a lane sees a whole entry
//! or another whole one.
//!
//! Law: an entry is right as long as the lease is. Whoever gives a cluster another place, or makes it
//! somebody else's too, has the leases back first and forgets the entry before they go out again.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::image::Image;
use crate::request::{Action, Durability};

/// Slots: 512 KiB, for 4 GiB of clusters of 64 KiB.
const SLOTS: u64 = 1 << 16;

/// An entry is there.
const THERE: u64 = 1 << 63;

/// Bits of the cluster's number in the file.
const HOST_BITS: u32 = 36;

/// See the module.
#[derive(Debug)]
pub struct Mapped {
    image: Arc<Image>,
    cluster_bits: u32,
    slots: Box<[AtomicU64]>,
}

impl Mapped {
    /// Of an image whose guest data is in `image`; nothing is known.
    pub fn new(image: Arc<Image>, cluster_size: u64) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { image, cluster_bits: cluster_size.trailing_zeros(), slots }
    }

    /// The clusters that a range touches.
    pub fn clusters(&self, range: &Range<u64>) -> Range<u64> {
        range.start >> self.cluster_bits..range.end.div_ceil(1 << self.cluster_bits)
    }

    /// Enters a cluster that is at `host`.
    pub fn enter(&self, cluster: u64, host: u64) {
        let (high, host) = (cluster / SLOTS, host >> self.cluster_bits);
        if high >> (63 - HOST_BITS) == 0
            && host >> HOST_BITS == 0
            && let Some(slot) = self.slot(cluster)
        {
            slot.store(THERE | high << HOST_BITS | host, Ordering::Release);
        }
    }

    /// Forgets the clusters that a range touches. No lane has a lease.
    pub fn forget(&self, range: &Range<u64>) {
        let clusters = self.clusters(range);
        if clusters.end - clusters.start >= SLOTS {
            return self.slots.iter().for_each(|slot| slot.store(0, Ordering::Release));
        }
        for slot in clusters.filter_map(|cluster| self.slot(cluster)) {
            slot.store(0, Ordering::Release);
        }
    }

    fn slot(&self, cluster: u64) -> Option<&AtomicU64> {
        self.slots.get((cluster % SLOTS) as usize)
    }

    #[inline]
    fn place(&self, cluster: u64) -> Option<u64> {
        let entry = self.slot(cluster)?.load(Ordering::Acquire);
        let high = (entry & !THERE) >> HOST_BITS;
        let host = entry & ((1 << HOST_BITS) - 1);
        (entry & THERE != 0 && high == cluster / SLOTS).then_some(host)
    }

    /// A read or write as one of the file, if all its clusters are known and lie side by side.
    #[inline]
    pub fn translate(&self, action: Action) -> Option<(&Arc<Image>, Action)> {
        let (at, len) = match action {
            Action::Read { at, span } => (at, span.len),
            Action::Write { at, span, durability: Durability::Visible } => (at, span.len),
            _ => return None,
        };
        let clusters = self.clusters(&(at..at + u64::from(len)));
        let first = self.place(clusters.start)?;
        let mut rest = (clusters.start + 1..clusters.end).zip(first + 1..);
        if !rest.all(|(cluster, host)| self.place(cluster) == Some(host)) {
            return None;
        }
        let within = at & ((1 << self.cluster_bits) - 1);
        let at = (first << self.cluster_bits) + within;
        let action = match action {
            Action::Read { span, .. } => Action::Read { at, span },
            Action::Write { span, durability, .. } => Action::Write { at, span, durability },
            _ => return None,
        };
        Some((&self.image, action))
    }
}
