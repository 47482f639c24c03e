//! Counts as they will be. Blocks in force stay as they are; one that changes gets another place.
//!
//! ```text
//! in force ──▶ in memory ──change──▶ unplaced ──place──▶ placed ⇄ in memory
//! ```
//!
//! Few blocks are in memory at a time, however large the image is, and whatever its tables refer to: one that
//! changed goes to its place when others need the room, and is read from there when it is needed again.
//!
//! Law: a place is a cluster that is free both in force and to be.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::freed::Freed;
use crate::outcome::{Failure, Outcome};
use crate::qcow2::geometry::{END_OF_OFFSETS, Geometry};
use crate::qcow2::open::read_bytes;
use crate::qcow2::{Qcow2, count};
use crate::storage::Storage;

/// Bytes of blocks in memory: what counts 128 GiB of clusters of 64 KiB by 16 bits.
const ROOM: u64 = 4 << 20;

/// Blocks that have room, however large they are: the one that changes, its place's, and its old place's.
const LEAST: u64 = 4;

/// A block as it will be.
struct Block {
    bytes: Vec<u8>,
    /// Its place, if it has one, has older bytes.
    dirty: bool,
    /// When it was last looked at.
    used: u64,
}

/// See the module.
pub(super) struct Counts<'a, S> {
    image: &'a Qcow2<S>,
    pub(super) geometry: Geometry,
    /// Places of blocks in force.
    in_force: Vec<u64>,
    /// Places of blocks that change, and changed blocks that have none yet.
    places: BTreeMap<u64, u64>,
    unplaced: BTreeSet<u64>,
    blocks: HashMap<u64, Block>,
    clock: u64,
    /// The block in force that was looked at last.
    old: Option<(u64, Vec<u8>)>,
    /// Free clusters are looked for from here on.
    hint: u64,
    freed: Freed,
}

impl<'a, S: Storage> Counts<'a, S> {
    /// The counts in force, of which none changes yet.
    pub(super) fn of(image: &'a Qcow2<S>) -> Self {
        let state = image.state.borrow();
        Self {
            image,
            geometry: image.geometry,
            in_force: state.reftable.iter().map(|entry| entry & !511).collect(),
            places: BTreeMap::new(),
            unplaced: BTreeSet::new(),
            blocks: HashMap::new(),
            clock: 0,
            old: None,
            hint: state.hint,
            freed: Freed::default(),
        }
    }

    /// No count at all, in another width. Everything new goes behind the first `clusters`.
    pub(super) fn begin_anew(&mut self, order: u32, clusters: u64) {
        self.geometry.refcount_order = order;
        self.in_force.clear();
        self.blocks.clear();
        self.old = None;
        self.hint = clusters;
    }

    /// The block that counts a cluster, and the cluster's number in it.
    fn place_of(&self, cluster: u64) -> (u64, usize) {
        let counts = self.geometry.counts();
        (cluster / counts, (cluster % counts) as usize)
    }

    fn place_in_force(&self, index: u64) -> u64 {
        self.in_force.get(index as usize).copied().unwrap_or(0)
    }

    fn changes(&self, index: u64) -> bool {
        self.places.contains_key(&index) || self.unplaced.contains(&index)
    }

    /// How often a cluster will be used.
    pub(super) async fn count(&mut self, cluster: u64) -> Result<u64, Failure> {
        let (index, number) = self.place_of(cluster);
        // What no table has room for is counted by nobody.
        if !self.changes(index) && self.place_in_force(index) == 0 {
            return Ok(0);
        }
        let geometry = self.geometry;
        let block = self.block(index).await?;
        Ok(count::get(geometry, &block.bytes, number))
    }

    /// One use more or less of what is in use, and must be counted therefore.
    pub(super) async fn change_used(&mut self, cluster: u64, up: bool) -> Outcome {
        self.place_some().await?;
        self.change_in_memory(cluster, up, 1).await
    }

    /// One use less.
    pub(super) async fn release(&mut self, cluster: u64) -> Outcome {
        self.change_used(cluster, false).await
    }

    /// Says how often a cluster that is not counted yet is used.
    pub(super) async fn set(&mut self, cluster: u64, uses: u64) -> Outcome {
        if uses > self.geometry.most() {
            return Err(Failure::TOO_LARGE);
        }
        self.place_some().await?;
        self.put(cluster, uses).await
    }

    /// A cluster that is counted less than `least` times is damage.
    async fn change_in_memory(&mut self, cluster: u64, up: bool, least: u64) -> Outcome {
        if cluster >= END_OF_OFFSETS >> self.geometry.cluster_bits {
            return Err(self.image.damaged(format!("cluster {cluster:#x} cannot be")));
        }
        let now = self.count(cluster).await?;
        if now < least {
            return Err(self.image.damaged(format!("cluster {cluster:#x} is used, not counted")));
        }
        if up && now == self.geometry.most() {
            return Err(Failure::TOO_LARGE);
        }
        let then = if up { now + 1 } else { now - 1 };
        self.put(cluster, then).await?;
        if then == 0 {
            self.freed.add(cluster);
        }
        Ok(())
    }

    async fn put(&mut self, cluster: u64, uses: u64) -> Outcome {
        let (index, number) = self.place_of(cluster);
        let geometry = self.geometry;
        let block = self.block(index).await?;
        count::set(geometry, &mut block.bytes, number, uses);
        block.dirty = true;
        if !self.places.contains_key(&index) {
            self.unplaced.insert(index);
        }
        Ok(())
    }

    /// Finds `count` neighbouring clusters that are free now and will be used once; the first.
    pub(super) async fn allocate(&mut self, count: u64) -> Result<u64, Failure> {
        self.place_some().await?;
        self.allocate_in_memory(count).await
    }

    async fn allocate_in_memory(&mut self, count: u64) -> Result<u64, Failure> {
        let mut first = self.hint;
        let mut cluster = first;
        while cluster < first + count {
            let free = self.is_free(cluster).await?;
            cluster += 1;
            if !free {
                first = cluster;
            }
        }
        let end = (first + count) << self.geometry.cluster_bits;
        if end > END_OF_OFFSETS {
            return Err(Failure::TOO_LARGE);
        }
        if !self.image.file.grows() && end > self.image.file.size()? {
            return Err(Failure::NO_SPACE);
        }
        for cluster in first..first + count {
            self.change_in_memory(cluster, true, 0).await?;
        }
        if count == 1 {
            self.hint = first + 1;
        }
        Ok(first)
    }

    async fn is_free(&mut self, cluster: u64) -> Result<bool, Failure> {
        if self.count(cluster).await? != 0 {
            return Ok(false);
        }
        let (index, number) = self.place_of(cluster);
        if !self.changes(index) || self.place_in_force(index) == 0 {
            return Ok(true);
        }
        let geometry = self.geometry;
        if self.old.as_ref().is_none_or(|(other, _)| *other != index) {
            let bytes = self.read(self.place_in_force(index)).await?;
            self.old = Some((index, bytes));
        }
        Ok(self.old.as_ref().is_some_and(|(_, old)| count::get(geometry, old, number) == 0))
    }

    /// A block as it will be, in memory.
    async fn block(&mut self, index: u64) -> Result<&mut Block, Failure> {
        self.clock += 1;
        if !self.blocks.contains_key(&index) {
            self.shed().await?;
            let at = self.places.get(&index).copied();
            let bytes = self.read(at.unwrap_or(self.place_in_force(index))).await?;
            self.blocks.insert(index, Block { bytes, dirty: false, used: 0 });
        }
        let block = self.blocks.get_mut(&index).ok_or(Failure::IO)?;
        block.used = self.clock;
        Ok(block)
    }

    async fn read(&self, at: u64) -> Result<Vec<u8>, Failure> {
        if !self.geometry.is_start(at) {
            return Err(self.image.damaged(format!("a refcount block at {at:#x}")));
        }
        let len = self.geometry.cluster() as usize;
        if at == 0 { Ok(vec![0; len]) } else { read_bytes(&self.image.file, at, len).await }
    }

    fn room(&self) -> usize {
        (ROOM / self.geometry.cluster()).max(LEAST) as usize
    }

    /// Makes room for one more in memory, as far as blocks have a place to go to.
    async fn shed(&mut self) -> Outcome {
        if self.blocks.len() < self.room() {
            return Ok(());
        }
        // A quarter at a time: looking for the oldest costs a look at all.
        let placed = self.blocks.iter().filter(|(index, _)| !self.unplaced.contains(index));
        let mut oldest: Vec<_> = placed.map(|(index, block)| (block.used, *index)).collect();
        oldest.sort_unstable();
        oldest.truncate((self.room() / 4).max(1));
        for (_, index) in oldest {
            self.write_out(index).await?;
            self.blocks.remove(&index);
        }
        Ok(())
    }

    /// A changed block that has a place goes there.
    async fn write_out(&mut self, index: u64) -> Outcome {
        let Some(block) = self.blocks.get_mut(&index).filter(|block| block.dirty) else {
            return Ok(());
        };
        let at = self.places.get(&index).ok_or(Failure::IO)?;
        super::write(self.image, *at, &block.bytes).await?;
        block.dirty = false;
        Ok(())
    }

    /// Gives changed blocks their places, once they are so many that they crowd out others.
    async fn place_some(&mut self) -> Outcome {
        if self.unplaced.len() * 2 > self.room() { self.place_all().await } else { Ok(()) }
    }

    /// Gives every block that changes another place. That changes counts again, in the end in blocks that
    /// have their place already.
    pub(super) async fn place_all(&mut self) -> Outcome {
        let bits = self.geometry.cluster_bits;
        while let Some(index) = self.unplaced.first().copied() {
            let at = self.allocate_in_memory(1).await? << bits;
            match self.place_in_force(index) {
                0 => {}
                old => self.change_in_memory(old >> bits, false, 1).await?,
            }
            self.places.insert(index, at);
            self.unplaced.remove(&index);
        }
        Ok(())
    }

    /// Entries that the refcount table needs for the blocks that have changed.
    pub(super) fn entries(&self) -> u64 {
        self.places.keys().next_back().map_or(0, |last| last + 1)
    }

    /// Writes what is left, and says where all blocks are: the refcount table to be.
    pub(super) async fn finish(&mut self) -> Result<(Vec<u64>, Freed), Failure> {
        let mut left: Vec<u64> = self.blocks.keys().copied().collect();
        left.sort_unstable();
        for index in left {
            self.write_out(index).await?;
        }
        let mut table = std::mem::take(&mut self.in_force);
        table.resize(table.len().max(self.entries() as usize), 0);
        for (index, at) in std::mem::take(&mut self.places) {
            table[index as usize] = at;
        }
        Ok((table, std::mem::take(&mut self.freed)))
    }
}
