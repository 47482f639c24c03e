//! What an image says about itself, as far as people ask.

use super::header::{Header, compatible, incompatible};
use super::{Qcow2, Snapshot};
use crate::storage::Storage;

/// Facts of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The header.
    pub header: Header,
    /// Internal snapshots.
    pub snapshots: Vec<Snapshot>,
}

impl Info {
    /// `0.10` or `1.1`, as QEMU calls versions 2 and 3.
    pub fn compat(&self) -> &'static str {
        if self.header.version < 3 { "0.10" } else { "1.1" }
    }

    /// The lazy-refcounts feature.
    pub fn lazy_refcounts(&self) -> bool {
        self.header.compatible & compatible::LAZY_REFCOUNTS != 0
    }

    /// The corrupt bit.
    pub fn corrupt(&self) -> bool {
        self.header.has(incompatible::CORRUPT)
    }

    /// The dirty bit.
    pub fn dirty(&self) -> bool {
        self.header.has(incompatible::DIRTY)
    }

    /// Bits of a refcount.
    pub fn refcount_bits(&self) -> u32 {
        1 << self.header.geometry.refcount_order
    }
}

impl<S: Storage> Qcow2<S> {
    /// Its facts.
    pub fn info(&self) -> Info {
        Info { header: self.header(), snapshots: self.snapshots() }
    }
}
