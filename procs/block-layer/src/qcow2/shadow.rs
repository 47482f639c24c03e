//! Another set of tables beside the one in force, and the one write that puts it in force.
//!
//! Snapshots, bitmaps and a new L1 table change many counts and flags at once, and a crash may not leave
//! half of them: a count of 2 with a flag that says 1 is an error. So nothing in force is changed. What
//! differs (L2 tables, refcount blocks, the refcount table, the L1 table, the snapshot table) is written
//! into clusters that are free, and then the first sector of the header is: it names them all.
//!
//! ```text
//! alone     no operation is under way, the file says everything          (turns)
//! build     new tables in free clusters; counts change in memory only
//!   sync
//! header    one sector: the new tables are in force, the old ones free
//!   sync
//! reload    the state is read from the file, as when it was opened
//! ```
//!
//! A crash before the header leaves the image as it was, one after it the new image; what was written in
//! vain lies in clusters that nobody counts, so nothing leaks either. A process that dies leaves the
//! same: the journal is empty meanwhile and has nothing to add.
//!
//! Law: a cluster that is in use in either set is not written.

mod counts;
mod freed;

use super::Qcow2;
use super::entry::{Granules, Mapping};
use super::geometry::{Geometry, OFFSET};
use super::header::{Header, MOST_REFTABLE_BYTES};
use super::open::read_bytes;
use super::turns::Alone;
use crate::memory::Heap;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

use counts::Counts;
use freed::Freed;

/// The bit of an L1 or L2 entry that says that nobody else uses the cluster.
pub(super) const COPIED: u64 = 1 << 63;

/// Numbers of a table that are written at a time.
const PIECE: usize = 8192;

/// See the module.
pub(super) struct Shadow<'a, S> {
    image: &'a Qcow2<S>,
    _alone: Alone<'a, S>,
    /// The header to be. Where the refcount table is comes by itself.
    pub(super) header: Header,
    counts: Counts<'a, S>,
    /// The counts in force are not those that change.
    anew: bool,
}

impl<'a, S: Storage> Shadow<'a, S> {
    /// Begins a change, once nobody else does anything.
    pub(super) async fn begin(image: &'a Qcow2<S>) -> Result<Self, Failure> {
        image.writable()?;
        let alone = image.alone().await?;
        image.writable()?;
        let header = image.header();
        Ok(Self { image, _alone: alone, header, counts: Counts::of(image), anew: false })
    }

    /// Begins a change in which all clusters are counted anew, in another width.
    pub(super) async fn recount(image: &'a Qcow2<S>, order: u32) -> Result<Self, Failure> {
        let mut shadow = Self::begin(image).await?;
        let mut uses = Vec::new();
        for cluster in 0..image.file.size()?.div_ceil(shadow.cluster()) {
            uses.push(shadow.counts.count(cluster).await?);
        }
        for cluster in image.counting() {
            if let Some(uses) = uses.get_mut(cluster as usize) {
                *uses = uses.saturating_sub(1);
            }
        }
        let clusters = uses.len() as u64;
        shadow.recounted(order, clusters, (0..).zip(uses)).await?;
        Ok(shadow)
    }

    /// The same for an image of so many clusters whose counts nobody believes: `uses` says how often each is
    /// used by others than the counts themselves.
    pub(super) async fn rebuild(
        image: &'a Qcow2<S>,
        clusters: u64,
        uses: impl Iterator<Item = (u64, u64)>,
    ) -> Result<Self, Failure> {
        let mut shadow = Self::begin(image).await?;
        shadow.recounted(image.geometry.refcount_order, clusters, uses).await?;
        Ok(shadow)
    }

    /// Everything new goes behind the end of the file, where surely nothing is.
    async fn recounted(
        &mut self,
        order: u32,
        clusters: u64,
        uses: impl Iterator<Item = (u64, u64)>,
    ) -> Outcome {
        self.header.geometry.refcount_order = order;
        self.counts.begin_anew(order, clusters);
        self.anew = true;
        for (cluster, uses) in uses.filter(|(_, uses)| *uses > 0) {
            self.counts.set(cluster, uses).await?;
        }
        Ok(())
    }

    fn geometry(&self) -> Geometry {
        self.counts.geometry
    }

    fn cluster(&self) -> u64 {
        self.geometry().cluster()
    }

    fn bits(&self) -> u32 {
        self.geometry().cluster_bits
    }

    /// A use of each of these bytes' clusters ends.
    pub(super) async fn release(&mut self, at: u64, bytes: u64) -> Outcome {
        let first = at >> self.bits();
        for cluster in first..first + bytes.div_ceil(self.cluster()) {
            self.counts.release(cluster).await?;
        }
        Ok(())
    }

    /// Room for so many bytes in clusters of their own; where.
    async fn allocate(&mut self, bytes: u64) -> Result<u64, Failure> {
        let first = self.counts.allocate(bytes.div_ceil(self.cluster())).await?;
        Ok(first << self.bits())
    }

    /// Writes bytes into clusters of their own; where they are, 0 if there are none.
    pub(super) async fn place(&mut self, mut bytes: Vec<u8>) -> Result<u64, Failure> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let at = self.allocate(bytes.len() as u64).await?;
        bytes.resize(bytes.len().next_multiple_of(self.cluster() as usize), 0);
        write(self.image, at, &bytes).await?;
        Ok(at)
    }

    /// The same with a table of `entries` numbers: these, and zeroes.
    pub(super) async fn place_numbers(
        &mut self,
        numbers: &[u64],
        entries: u64,
    ) -> Result<u64, Failure> {
        if entries == 0 {
            return Ok(0);
        }
        let at = self.allocate(entries * 8).await?;
        self.write_numbers(at, numbers, entries).await?;
        Ok(at)
    }

    /// A piece at a time: tables are long.
    async fn write_numbers(&self, at: u64, numbers: &[u64], entries: u64) -> Outcome {
        let cluster = self.cluster();
        let end = at + (entries * 8).next_multiple_of(cluster);
        let mut next = at;
        for piece in numbers.chunks(PIECE) {
            let mut bytes: Vec<u8> = piece.iter().flat_map(|number| number.to_be_bytes()).collect();
            bytes.resize(bytes.len().next_multiple_of(cluster.min(PIECE as u64 * 8) as usize), 0);
            write(self.image, next, &bytes).await?;
            next += bytes.len() as u64;
        }
        if next < end {
            reach(self.image, end);
            self.image.file.zero(next, end - next).await?;
        }
        Ok(())
    }

    /// Another L1 table takes the place of the disk's: `entries` of them, those behind `l1` are not in use.
    pub(super) async fn set_l1(&mut self, mut l1: Vec<u64>, entries: u64) -> Outcome {
        self.set_flags(&mut l1).await?;
        let (at, had) = (self.header.l1_at, self.header.l1_entries);
        self.release(at, u64::from(had) * 8).await?;
        self.header.l1_at = self.place_numbers(&l1, entries).await?;
        self.header.l1_entries = entries as u32;
        Ok(())
    }

    /// Everything that an L1 table refers to is used once more, or less.
    pub(super) async fn count_tree(&mut self, l1: &[u64], up: bool) -> Outcome {
        let bits = self.bits();
        for at in l1.iter().map(|entry| entry & OFFSET).filter(|at| *at != 0) {
            self.counts.change_used(at >> bits, up).await?;
            let table = self.table(at).await?;
            for entry in table.chunks_exact(self.geometry().entry() as usize) {
                match self.mapping(entry)? {
                    Mapping::Compressed { at, len } => {
                        for cluster in at >> bits..=(at + len - 1) >> bits {
                            self.counts.change_used(cluster, up).await?;
                        }
                    }
                    Mapping::Plain(Granules { host: Some(at), .. })
                        if !self.header.has_data_file() =>
                    {
                        self.counts.change_used(at >> bits, up).await?;
                    }
                    Mapping::Plain(_) => {}
                }
            }
        }
        Ok(())
    }

    /// An L2 table as it is in the file.
    pub(super) async fn table(&self, at: u64) -> Result<Vec<u8>, Failure> {
        if !self.geometry().is_start(at) {
            return Err(self.image.damaged(format!("the L2 table at {at:#x} is not aligned")));
        }
        read_bytes(&self.image.file, at, self.cluster() as usize).await
    }

    pub(super) fn mapping(&self, entry: &[u8]) -> Result<Mapping, Failure> {
        let (descriptor, bitmap) = words(entry);
        let external = self.header.has_data_file();
        Mapping::decode(self.geometry(), self.image.version, external, descriptor, bitmap)
            .map_err(|bad| self.image.damaged(format!("{bad} is wrong")))
    }

    /// Says in the disk's own tables which clusters are the disk's alone. A table in which that changes
    /// gets another place, for the one that is in force stays as it is.
    async fn set_flags(&mut self, l1: &mut [u64]) -> Outcome {
        let bits = self.bits();
        for entry in l1 {
            let at = *entry & OFFSET;
            if at == 0 {
                *entry = 0;
                continue;
            }
            let mut table = self.table(at).await?;
            if self.set_flags_in(&mut table).await? {
                let new = self.allocate(self.cluster()).await?;
                self.counts.release(at >> bits).await?;
                write(self.image, new, &table).await?;
                *entry = new | COPIED;
            } else {
                let alone = self.counts.count(at >> bits).await? == 1;
                *entry = at | if alone { COPIED } else { 0 };
            }
        }
        Ok(())
    }

    async fn set_flags_in(&mut self, table: &mut [u8]) -> Result<bool, Failure> {
        let mut changed = false;
        if self.header.has_data_file() {
            return Ok(false);
        }
        for entry in table.chunks_exact_mut(self.geometry().entry() as usize) {
            let Mapping::Plain(Granules { host: Some(at), owned, .. }) = self.mapping(entry)?
            else {
                continue;
            };
            let alone = self.counts.count(at >> self.bits()).await? == 1;
            if alone != owned {
                entry[0] ^= 0x80;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Writes what is left, and puts the new tables in force.
    pub(super) async fn finish(mut self) -> Outcome {
        let (at, mut clusters) =
            (self.header.reftable_at, u64::from(self.header.reftable_clusters));
        match self.anew {
            true => clusters = 1,
            false => self.release(at, clusters * self.cluster()).await?,
        }
        let freed = self.place_counts(clusters).await?;
        self.image.file.sync().await?;
        self.image.switch(&self.header).await?;
        if self.image.options.discard && !self.anew {
            self.discard(&freed).await?;
        }
        Ok(())
    }

    /// Places the refcount table, of `clusters` or more, and what it refers to. The blocks count it as well.
    async fn place_counts(&mut self, mut clusters: u64) -> Result<Freed, Failure> {
        let cluster = self.cluster();
        self.counts.place_all().await?;
        let at = loop {
            clusters = clusters.max((self.counts.entries() * 8).div_ceil(cluster));
            if clusters * cluster > MOST_REFTABLE_BYTES {
                return Err(Failure::TOO_LARGE);
            }
            let at = self.allocate(clusters * cluster).await?;
            self.counts.place_all().await?;
            if self.counts.entries() * 8 <= clusters * cluster {
                break at;
            }
            self.release(at, clusters * cluster).await?;
        };
        let (table, freed) = self.counts.finish().await?;
        self.write_numbers(at, &table, clusters * cluster / 8).await?;
        self.header.reftable_at = at;
        self.header.reftable_clusters = clusters as u32;
        Ok(freed)
    }

    async fn discard(&self, freed: &Freed) -> Outcome {
        for cluster in freed.clusters() {
            // It may have been taken again meanwhile, by this very change.
            if self.image.count(cluster).await? == 0 {
                let at = cluster << self.image.geometry.cluster_bits;
                self.image.file.discard(at, self.cluster()).await?;
            }
        }
        Ok(())
    }
}

/// Writes into clusters that were allocated here.
async fn write<S: Storage>(image: &Qcow2<S>, at: u64, bytes: &[u8]) -> Outcome {
    reach(image, at + bytes.len() as u64);
    image.file.write(at, Heap::copy_of(bytes).into()).await
}

/// Whether a write up to `end` ends well or not, what lies before it is no longer zeroes.
fn reach<S>(image: &Qcow2<S>, end: u64) {
    let state = &mut *image.state.borrow_mut();
    state.fresh = state.fresh.max(end);
}

/// Descriptor and bitmap of an L2 entry.
fn words(entry: &[u8]) -> (u64, u64) {
    let word = |from: usize| {
        let bytes = entry.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_be_bytes(bytes.unwrap_or_default())
    };
    (word(0), word(8))
}
