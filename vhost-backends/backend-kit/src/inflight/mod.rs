//! In-flight tables: what a successor needs to know about requests that were taken and not answered.
//!
//! The table is a memory object that outlives this process. Its format and the order of every store
//! are those of vhost-user ("Inflight I/O tracking"), for split and for packed rings; a record is the
//! part of one queue while this process serves it.
//!
//! Law:
//! - Stores are made in the text's order; a death between any two of them leaves a table from which
//!   the successor finds exactly the requests that the driver has not got back.
//! - What a predecessor left is an allegation: every index is checked against the queue's size and
//!   every walk is bounded by it. A table that contradicts itself is a [`TableFault`], and the queue
//!   is not started: a guess could repeat a write that a later one has replaced.
//! - While this process lives it believes its own memory, not the table.
//!
//! Beyond the text, one byte of each entry's padding counts attempts (`attempts.rs`).

mod attempts;
#[cfg(test)]
pub(crate) mod death;
mod packed;
mod region;
mod split;
mod table;

pub(crate) use attempts::{HOPELESS, POISON};
pub use packed::{PackedRecord, PackedRequest};
pub use split::SplitRecord;
pub use table::{InflightTable, TableError};

/// A recovered table contradicts itself or its ring. Whoever wrote it (Peer: the predecessor, or the
/// frontend that passed it) is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableFault {
    /// It is of another version of the format.
    #[error("in-flight table of version {0}")]
    Version(u16),
    /// It was made for another size of the queue.
    #[error("in-flight table of {found} entries for a queue of {size}")]
    Entries {
        /// What the table says.
        found: u16,
        /// What the driver set.
        size: u16,
    },
    /// The used indices of table and ring are too far apart.
    #[error("in-flight table at used index {table}, the ring at {ring}")]
    UsedIndex {
        /// What the table says.
        table: u16,
        /// What the ring says.
        ring: u16,
    },
    /// A link names no entry, or one that another list has.
    #[error("entry {0} of the in-flight table is linked where it cannot be")]
    Link(u16),
    /// An entry has an impossible value.
    #[error("entry {0} of the in-flight table is nonsense")]
    Entry(u16),
    /// Free entries and those in flight are not all there are.
    #[error("{free} free entries and {used} in flight in a table of {size}")]
    Sum {
        /// Entries on the free list.
        free: u16,
        /// Entries in flight.
        used: u32,
        /// Entries there are.
        size: u16,
    },
}

/// The one version of the format.
const VERSION: u16 = 1;

#[cfg(test)]
mod tests;
