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

use std::collections::BTreeMap;

use super::entry::{Granules, Mapping};
use super::geometry::{END_OF_OFFSETS, Geometry, OFFSET};
use super::header::{Header, MOST_REFTABLE_BYTES};
use super::open::read_bytes;
use super::turns::Alone;
use super::{Qcow2, count};
use crate::memory::Heap;
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// The bit of an L1 or L2 entry that says that nobody else uses the cluster.
pub(super) const COPIED: u64 = 1 << 63;

/// A refcount block, in force and to be.
struct Block {
    /// `None`: as it will be.
    old: Option<Vec<u8>>,
    new: Vec<u8>,
}

/// See the module.
pub(super) struct Shadow<'a, S> {
    image: &'a Qcow2<S>,
    _alone: Alone<'a, S>,
    geometry: Geometry,
    /// The header to be. Where the refcount table is comes by itself.
    pub(super) header: Header,
    /// Places of blocks in force.
    reftable: Vec<u64>,
    blocks: BTreeMap<u64, Block>,
    /// Free clusters are looked for from here on.
    hint: u64,
    /// Clusters that nobody uses any more: first and count.
    freed: Vec<(u64, u64)>,
    /// The counts in force are not those that change.
    anew: bool,
}

impl<'a, S: Storage> Shadow<'a, S> {
    /// Begins a change, once nobody else does anything.
    pub(super) async fn begin(image: &'a Qcow2<S>) -> Result<Self, Failure> {
        image.writable()?;
        let alone = image.alone().await?;
        image.writable()?;
        let state = image.state.borrow();
        Ok(Self {
            image,
            _alone: alone,
            geometry: image.geometry,
            header: state.header.clone(),
            reftable: state.reftable.iter().map(|entry| entry & !511).collect(),
            blocks: BTreeMap::new(),
            hint: state.hint,
            freed: Vec::new(),
            anew: false,
        })
    }

    /// Begins a change in which all clusters are counted anew, in another width.
    pub(super) async fn recount(image: &'a Qcow2<S>, order: u32) -> Result<Self, Failure> {
        let mut shadow = Self::begin(image).await?;
        let mut uses = Vec::new();
        for cluster in 0..image.file.size()?.div_ceil(shadow.cluster()) {
            uses.push(shadow.count(cluster).await?);
        }
        let table = shadow.header.reftable_at >> shadow.geometry.cluster_bits;
        let blocks = shadow.reftable.iter().filter(|at| **at != 0);
        let blocks = blocks.map(|at| at >> shadow.geometry.cluster_bits);
        let tables = table..table + u64::from(shadow.header.reftable_clusters);
        for cluster in blocks.chain(tables) {
            if let Some(uses) = uses.get_mut(cluster as usize) {
                *uses = uses.saturating_sub(1);
            }
        }
        shadow.recounted(order, &uses).await?;
        Ok(shadow)
    }

    /// The same for an image whose counts nobody believes: `uses` says how often each cluster is used by
    /// others than the counts themselves.
    pub(super) async fn rebuild(image: &'a Qcow2<S>, uses: &[u64]) -> Result<Self, Failure> {
        let mut shadow = Self::begin(image).await?;
        let order = shadow.geometry.refcount_order;
        shadow.recounted(order, uses).await?;
        Ok(shadow)
    }

    /// Everything new goes behind the end of the file, where surely nothing is.
    async fn recounted(&mut self, order: u32, uses: &[u64]) -> Outcome {
        self.geometry.refcount_order = order;
        self.header.geometry.refcount_order = order;
        self.reftable.clear();
        self.blocks.clear();
        self.hint = uses.len() as u64;
        self.anew = true;
        let (geometry, counts) = (self.geometry, self.geometry.counts());
        for (cluster, uses) in uses.iter().enumerate().filter(|(_, uses)| **uses > 0) {
            if *uses > geometry.most() {
                return Err(Failure::TOO_LARGE);
            }
            let block = self.block(cluster as u64 / counts).await?;
            block.old.get_or_insert_with(|| block.new.clone());
            count::set(geometry, &mut block.new, (cluster as u64 % counts) as usize, *uses);
        }
        Ok(())
    }

    fn cluster(&self) -> u64 {
        self.geometry.cluster()
    }

    /// How often a cluster will be used.
    pub(super) async fn count(&mut self, cluster: u64) -> Result<u64, Failure> {
        // What no table has room for is counted by nobody, and costs no memory here.
        let index = cluster / self.geometry.counts();
        if !self.blocks.contains_key(&index)
            && self.reftable.get(index as usize).is_none_or(|at| *at == 0)
        {
            return Ok(0);
        }
        let (geometry, counts) = (self.geometry, self.geometry.counts());
        let block = self.block(cluster / counts).await?;
        Ok(count::get(geometry, &block.new, (cluster % counts) as usize))
    }

    async fn is_free(&mut self, cluster: u64) -> Result<bool, Failure> {
        let (geometry, counts) = (self.geometry, self.geometry.counts());
        let index = (cluster % counts) as usize;
        let block = self.block(cluster / counts).await?;
        let was = block.old.as_ref().map_or(0, |old| count::get(geometry, old, index));
        Ok(was == 0 && count::get(geometry, &block.new, index) == 0)
    }

    async fn block(&mut self, index: u64) -> Result<&mut Block, Failure> {
        if !self.blocks.contains_key(&index) {
            let at = self.reftable.get(index as usize).copied().unwrap_or(0);
            if !self.geometry.is_start(at) {
                return Err(self.image.damaged(format!("a refcount block at {at:#x}")));
            }
            let len = self.cluster() as usize;
            let new = match at {
                0 => vec![0; len],
                at => read_bytes(&self.image.file, at, len).await?,
            };
            self.blocks.insert(index, Block { old: None, new });
        }
        self.blocks.get_mut(&index).ok_or(Failure::IO)
    }

    /// One use more or less; how many there are then.
    async fn change(&mut self, cluster: u64, up: bool) -> Result<u64, Failure> {
        if cluster >= END_OF_OFFSETS >> self.geometry.cluster_bits {
            return Err(self.image.damaged(format!("cluster {cluster:#x} cannot be")));
        }
        let (geometry, counts) = (self.geometry, self.geometry.counts());
        let index = (cluster % counts) as usize;
        let block = self.block(cluster / counts).await?;
        let now = count::get(geometry, &block.new, index);
        let then = if up { now + 1 } else { now.wrapping_sub(1) };
        if up && now == geometry.most() {
            return Err(Failure::TOO_LARGE);
        }
        if !up && now == 0 {
            return Err(self.image.damaged(format!("cluster {cluster:#x} is used, not counted")));
        }
        block.old.get_or_insert_with(|| block.new.clone());
        count::set(geometry, &mut block.new, index, then);
        if then == 0 {
            match self.freed.last_mut() {
                Some((first, count)) if *first + *count == cluster => *count += 1,
                _ => self.freed.push((cluster, 1)),
            }
        }
        Ok(then)
    }

    /// The same for what is in use, and must be counted therefore.
    async fn change_used(&mut self, cluster: u64, up: bool) -> Result<u64, Failure> {
        if self.count(cluster).await? == 0 {
            return Err(self.image.damaged(format!("cluster {cluster:#x} is used, not counted")));
        }
        self.change(cluster, up).await
    }

    /// A use of each of these bytes' clusters ends.
    pub(super) async fn release(&mut self, at: u64, bytes: u64) -> Outcome {
        let first = at >> self.geometry.cluster_bits;
        for cluster in first..first + bytes.div_ceil(self.cluster()) {
            self.change(cluster, false).await?;
        }
        Ok(())
    }

    /// Finds `count` neighbouring clusters that are free now and will be used once; where they are.
    pub(super) async fn allocate(&mut self, count: u64) -> Result<u64, Failure> {
        let mut first = self.hint;
        let mut cluster = first;
        while cluster < first + count {
            let free = self.is_free(cluster).await?;
            cluster += 1;
            if !free {
                first = cluster;
            }
        }
        let at = first << self.geometry.cluster_bits;
        let end = at + count * self.cluster();
        if end > END_OF_OFFSETS {
            return Err(Failure::TOO_LARGE);
        }
        if !self.image.file.grows() && end > self.image.file.size()? {
            return Err(Failure::NO_SPACE);
        }
        for cluster in first..first + count {
            self.change(cluster, true).await?;
        }
        if count == 1 {
            self.hint = first + 1;
        }
        Ok(at)
    }

    /// Writes whole clusters that were allocated here.
    pub(super) async fn write(&self, at: u64, mut bytes: Vec<u8>) -> Outcome {
        bytes.resize(bytes.len().next_multiple_of(self.cluster() as usize), 0);
        let end = at + bytes.len() as u64;
        {
            // Whether this ends well or not, what lies there is no longer zeroes.
            let state = &mut *self.image.state.borrow_mut();
            if state.fresh < end {
                state.fresh = end;
            }
        }
        self.image.file.write(at, Heap::copy_of(&bytes).into()).await
    }

    /// Writes bytes into clusters of their own; where they are, 0 if there are none.
    pub(super) async fn place(&mut self, bytes: Vec<u8>) -> Result<u64, Failure> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let at = self.allocate((bytes.len() as u64).div_ceil(self.cluster())).await?;
        self.write(at, bytes).await?;
        Ok(at)
    }

    /// The same with a table of numbers.
    pub(super) async fn place_numbers(&mut self, numbers: &[u64]) -> Result<u64, Failure> {
        self.place(numbers.iter().flat_map(|number| number.to_be_bytes()).collect()).await
    }

    /// Another L1 table takes the place of the disk's.
    pub(super) async fn set_l1(&mut self, mut l1: Vec<u64>) -> Outcome {
        self.set_flags(&mut l1).await?;
        let (at, entries) = (self.header.l1_at, self.header.l1_entries);
        self.release(at, u64::from(entries) * 8).await?;
        self.header.l1_at = self.place_numbers(&l1).await?;
        self.header.l1_entries = l1.len() as u32;
        Ok(())
    }

    /// Everything that an L1 table refers to is used once more, or less.
    pub(super) async fn count_tree(&mut self, l1: &[u64], up: bool) -> Outcome {
        let bits = self.geometry.cluster_bits;
        for at in l1.iter().map(|entry| entry & OFFSET).filter(|at| *at != 0) {
            self.change_used(at >> bits, up).await?;
            let table = self.table(at).await?;
            for entry in table.chunks_exact(self.geometry.entry() as usize) {
                match self.mapping(entry)? {
                    Mapping::Compressed { at, len } => {
                        for cluster in at >> bits..=(at + len - 1) >> bits {
                            self.change_used(cluster, up).await?;
                        }
                    }
                    Mapping::Plain(Granules { host: Some(at), .. })
                        if !self.header.has_data_file() =>
                    {
                        self.change_used(at >> bits, up).await?;
                    }
                    Mapping::Plain(_) => {}
                }
            }
        }
        Ok(())
    }

    /// An L2 table as it is in the file.
    pub(super) async fn table(&self, at: u64) -> Result<Vec<u8>, Failure> {
        if !self.geometry.is_start(at) {
            return Err(self.image.damaged(format!("the L2 table at {at:#x} is not aligned")));
        }
        read_bytes(&self.image.file, at, self.cluster() as usize).await
    }

    pub(super) fn mapping(&self, entry: &[u8]) -> Result<Mapping, Failure> {
        let (descriptor, bitmap) = words(entry);
        let external = self.header.has_data_file();
        Mapping::decode(self.geometry, self.image.version, external, descriptor, bitmap)
            .map_err(|bad| self.image.damaged(format!("{bad} is wrong")))
    }

    /// Says in the disk's own tables which clusters are the disk's alone. A table in which that changes
    /// gets another place, for the one that is in force stays as it is.
    async fn set_flags(&mut self, l1: &mut [u64]) -> Outcome {
        let bits = self.geometry.cluster_bits;
        for entry in l1 {
            let at = *entry & OFFSET;
            if at == 0 {
                *entry = 0;
                continue;
            }
            let mut table = self.table(at).await?;
            if self.set_flags_in(&mut table).await? {
                let new = self.allocate(1).await?;
                self.change(at >> bits, false).await?;
                self.write(new, table).await?;
                *entry = new | COPIED;
            } else {
                let alone = self.count(at >> bits).await? == 1;
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
        for entry in table.chunks_exact_mut(self.geometry.entry() as usize) {
            let Mapping::Plain(Granules { host: Some(at), owned, .. }) = self.mapping(entry)?
            else {
                continue;
            };
            let alone = self.count(at >> self.geometry.cluster_bits).await? == 1;
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
        self.place_blocks(clusters).await?;
        self.image.file.sync().await?;
        self.image.switch(&self.header).await?;
        if self.image.options.discard && !self.anew {
            self.discard().await?;
        }
        Ok(())
    }

    /// Gives every block that changes another place. That changes counts again, in the end in blocks
    /// that have their place already.
    async fn place_blocks(&mut self, clusters: u64) -> Outcome {
        let bits = self.geometry.cluster_bits;
        let mut places = BTreeMap::new();
        let mut table: Option<(u64, u64)> = None;
        loop {
            let changed = self.blocks.iter().filter(|(_, block)| block.old.is_some());
            let next = changed.map(|(index, _)| *index).find(|index| !places.contains_key(index));
            if let Some(index) = next {
                let old = self.reftable.get(index as usize).copied().unwrap_or(0);
                let at = self.allocate(1).await?;
                if old != 0 {
                    self.change(old >> bits, false).await?;
                }
                places.insert(index, at);
                continue;
            }
            let last = places.keys().next_back().copied().unwrap_or(0);
            let needed = ((last + 1) * 8).div_ceil(self.cluster()).max(clusters);
            match table {
                Some((_, clusters)) if clusters >= needed => break,
                Some((at, clusters)) => self.release(at, clusters * self.cluster()).await?,
                None => {}
            }
            if needed << bits > MOST_REFTABLE_BYTES {
                return Err(Failure::TOO_LARGE);
            }
            table = Some((self.allocate(needed).await?, needed));
        }
        let (at, clusters) = table.ok_or(Failure::IO)?;
        let mut numbers = self.reftable.clone();
        numbers.resize((clusters << bits) as usize / 8, 0);
        for (index, at) in places {
            numbers[index as usize] = at;
            let bytes = self.blocks.remove(&index).ok_or(Failure::IO)?.new;
            self.write(at, bytes).await?;
        }
        self.write(at, numbers.into_iter().flat_map(u64::to_be_bytes).collect()).await?;
        self.header.reftable_at = at;
        self.header.reftable_clusters = clusters as u32;
        Ok(())
    }

    async fn discard(&self) -> Outcome {
        for (first, count) in &self.freed {
            for cluster in *first..first + count {
                // It may have been taken again meanwhile, by this very change.
                if self.image.count(cluster).await? == 0 {
                    let at = cluster << self.geometry.cluster_bits;
                    self.image.file.discard(at, self.cluster()).await?;
                }
            }
        }
        Ok(())
    }
}

/// Descriptor and bitmap of an L2 entry.
fn words(entry: &[u8]) -> (u64, u64) {
    let word = |from: usize| {
        let bytes = entry.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_be_bytes(bytes.unwrap_or_default())
    };
    (word(0), word(8))
}
