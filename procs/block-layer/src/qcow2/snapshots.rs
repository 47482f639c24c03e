//! Internal snapshots: taking one, going back to one, removing one.
//!
//! A snapshot is an L1 table of its own. What it refers to is counted once for it, as everything is
//! counted once for each table through which it is reached; a cluster that is counted more than once is
//! written nowhere but copied. So the three are sums over tables ([`Shadow::count_tree`]):
//!
//! ```text
//! create   + the disk's tree     a copy of its L1 table joins the snapshot table
//! apply    + the snapshot's      − the disk's     the disk's L1 table becomes a copy of the snapshot's
//! delete   − the snapshot's      its L1 table and its place in the snapshot table are gone
//! ```
//!
//! and afterwards the flags of the disk's own tables follow from the counts. All of it comes into force
//! at once ([`Shadow`](super::shadow)).
//!
//! Difference to QEMU: a disk gets L2 tables of its own when a snapshot is taken, not with its next write.

mod table;

use super::Qcow2;
use super::geometry::OFFSET;
use super::header::MOST_L1_BYTES;
use super::open::read_numbers;
use super::shadow::Shadow;
use super::tables::in_use;
use crate::outcome::Failure;
use crate::storage::Storage;

pub use table::Snapshot;

/// Most snapshots, as in QEMU.
const MOST: usize = 65536;

/// Longest name.
const LONGEST_NAME: usize = 1023;

/// Why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// No such snapshot.
    #[error("there is no snapshot '{0}'")]
    Missing(String),
    /// A name that no snapshot can have.
    #[error("a snapshot's name has 1 to 1023 bytes")]
    Name,
    /// As many as there can be.
    #[error("the image has {MOST} snapshots; delete one")]
    TooMany,
    /// Clusters in another file are not counted, so they cannot be shared.
    #[error("an image with an external data file cannot have internal snapshots")]
    External,
    /// They would have to say what changed between two times that are no longer in order.
    #[error("the image has dirty bitmaps; remove them before going back to a snapshot")]
    Bitmaps,
    /// Counts are too narrow.
    #[error(
        "clusters of the image are used as often as its refcounts of {0} bits can say; convert it with more refcount_bits"
    )]
    Counts(u32),
    /// The host refused.
    #[error("{0}")]
    Host(#[from] Failure),
}

impl<S: Storage> Qcow2<S> {
    /// Internal snapshots, in the order of their table.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.state.borrow().snapshots.clone()
    }

    /// The one with this id, or else with this name.
    pub fn snapshot(&self, id_or_name: &str) -> Option<Snapshot> {
        let snapshots = &self.state.borrow().snapshots;
        let by_id = snapshots.iter().find(|snapshot| snapshot.id == id_or_name);
        by_id.or_else(|| snapshots.iter().find(|snapshot| snapshot.name == id_or_name)).cloned()
    }

    /// Takes a snapshot of the disk as it is, at a time since 1970.
    pub async fn snapshot_create(
        &self,
        name: &str,
        seconds: u32,
        nanoseconds: u32,
    ) -> Result<(), SnapshotError> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(SnapshotError::Name);
        }
        let mut shadow = self.shadow().await?;
        let mut snapshots = self.snapshots();
        if snapshots.len() >= MOST {
            return Err(SnapshotError::TooMany);
        }
        let (l1, entries) = (self.l1_in_use(), self.state.borrow().l1.len() as u64);
        self.counted(shadow.count_tree(&l1, true).await)?;
        let own: Vec<u64> = l1.iter().map(|entry| entry & OFFSET).collect();
        let l1_at = shadow.place_numbers(&own, entries).await?;
        let numbers = snapshots.iter().filter_map(|snapshot| snapshot.id.parse::<u64>().ok());
        let id = numbers.max().unwrap_or(0).saturating_add(1).to_string();
        let when = (seconds, nanoseconds);
        snapshots.push(Snapshot::new(id, name, when, l1_at, entries as u32, self.size()));
        self.set_snapshots(&mut shadow, &snapshots).await?;
        self.counted(shadow.set_l1(l1, entries).await)?;
        Ok(shadow.finish().await?)
    }

    /// The disk becomes what it was, its size included.
    pub async fn snapshot_apply(&self, id_or_name: &str) -> Result<(), SnapshotError> {
        let mut shadow = self.shadow().await?;
        let missing = || SnapshotError::Missing(id_or_name.to_owned());
        let snapshot = self.snapshot(id_or_name).ok_or_else(missing)?;
        if self.has_bitmaps() {
            return Err(SnapshotError::Bitmaps);
        }
        let (old, l1) = (self.l1_in_use(), self.l1_of(&snapshot).await?);
        // Less first: counts may have no room for more.
        shadow.count_tree(&old, false).await?;
        self.counted(shadow.count_tree(&l1, true).await)?;
        let size = self.size_of(&snapshot)?;
        let entries = self.l1_length(size, &l1);
        shadow.header.size = size;
        shadow.set_l1(l1, entries).await?;
        Ok(shadow.finish().await?)
    }

    /// Removes a snapshot.
    pub async fn snapshot_delete(&self, id_or_name: &str) -> Result<(), SnapshotError> {
        let mut shadow = self.shadow().await?;
        let missing = || SnapshotError::Missing(id_or_name.to_owned());
        let snapshot = self.snapshot(id_or_name).ok_or_else(missing)?;
        let l1 = self.l1_of(&snapshot).await?;
        shadow.count_tree(&l1, false).await?;
        shadow.release(snapshot.l1_at, u64::from(snapshot.l1_entries) * 8).await?;
        let others = self.snapshots().into_iter().filter(|other| other.id != snapshot.id);
        let others: Vec<Snapshot> = others.collect();
        self.set_snapshots(&mut shadow, &others).await?;
        let entries = self.state.borrow().l1.len() as u64;
        shadow.set_l1(self.l1_in_use(), entries).await?;
        Ok(shadow.finish().await?)
    }

    async fn shadow(&self) -> Result<Shadow<'_, S>, SnapshotError> {
        if self.header().has_data_file() {
            return Err(SnapshotError::External);
        }
        Ok(Shadow::begin(self).await?)
    }

    fn counted<T>(&self, done: Result<T, Failure>) -> Result<T, SnapshotError> {
        done.map_err(|failure| match failure {
            Failure::TOO_LARGE => SnapshotError::Counts(1 << self.geometry.refcount_order),
            failure => failure.into(),
        })
    }

    /// From now on the disk reads as it was then. Only of an image that is not written.
    pub async fn show_snapshot(&self, id_or_name: &str) -> Result<(), SnapshotError> {
        if !self.options.read_only {
            return Err(Failure::READ_ONLY.into());
        }
        let missing = || SnapshotError::Missing(id_or_name.to_owned());
        let snapshot = self.snapshot(id_or_name).ok_or_else(missing)?;
        let size = self.size_of(&snapshot)?;
        let mut l1 = self.l1_of(&snapshot).await?;
        l1.resize(self.l1_length(size, &l1) as usize, 0);
        let mut state = self.state.borrow_mut();
        state.header.size = size;
        state.l1 = l1;
        Ok(())
    }

    /// Entries that a disk of `size` bytes needs, or that are in use.
    fn l1_length(&self, size: u64, l1: &[u64]) -> u64 {
        self.geometry.l1_entries(size).max(l1.len() as u64)
    }

    /// A snapshot's size, if a disk can have it.
    fn size_of(&self, snapshot: &Snapshot) -> Result<u64, Failure> {
        let size = snapshot.size.unwrap_or(self.size());
        if size > i64::MAX as u64 || self.geometry.l1_entries(size) * 8 > MOST_L1_BYTES {
            return Err(self.damaged(format!("a snapshot of {size} bytes")));
        }
        Ok(size)
    }

    /// Its L1 table, up to the last entry that is in use.
    async fn l1_of(&self, snapshot: &Snapshot) -> Result<Vec<u64>, Failure> {
        let entries = snapshot.l1_entries as usize;
        let l1 = read_numbers(&self.file, snapshot.l1_at, entries, self.file.size()?).await?;
        Ok(in_use(l1))
    }

    /// Another snapshot table.
    pub(super) async fn set_snapshots(
        &self,
        shadow: &mut Shadow<'_, S>,
        snapshots: &[Snapshot],
    ) -> Result<(), Failure> {
        let old = self.state.borrow().snapshots.last().map_or(0, |last| last.table_end);
        shadow.release(shadow.header.snapshots_at, old).await?;
        let table = Snapshot::write_all(snapshots).ok_or(Failure::TOO_LARGE)?;
        shadow.header.snapshots_at = shadow.place(table).await?;
        shadow.header.snapshots = snapshots.len() as u32;
        Ok(())
    }
}
