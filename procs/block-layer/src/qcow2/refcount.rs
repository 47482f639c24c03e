//! Who uses which cluster of the file: finding free ones, counting, and giving back.
//!
//! The refcount table stays in memory, its blocks come in slices. A cluster is given out by one look at
//! a slice and one change of it, between two `await`s, so nobody else can be given the same.
//!
//! A block that does not exist yet is put into the first cluster it counts. A table that is too small
//! moves to the end of the file, with the blocks that count it before it; the header changes in a commit
//! of its own, before anything is counted in the part that is new.

use std::ops::Range;

use super::claims::Claim;
use super::geometry::END_OF_OFFSETS;
use super::header::MOST_REFTABLE_BYTES;
use super::journal::Record;
use super::slices::Kind;
use super::{Free, Qcow2, State, count};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// Clusters that were free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fresh {
    /// Where the first is.
    pub(super) at: u64,
    /// How many.
    pub(super) count: u64,
    /// They lie beyond everything that was ever written: they read as zeroes.
    pub(super) fresh: bool,
}

impl<S: Storage> Qcow2<S> {
    /// Takes one to `want` neighbouring free clusters.
    pub(super) async fn allocate(&self, want: u64) -> Result<Fresh, Failure> {
        let given = self.find(want).await?;
        self.stay_ahead(given.at + (given.count << self.geometry.cluster_bits)).await;
        Ok(given)
    }

    async fn find(&self, want: u64) -> Result<Fresh, Failure> {
        loop {
            let (index, block) = {
                let state = self.state.borrow();
                let index = state.hint / self.geometry.counts();
                let block = self.block(&state, index)?;
                (index, block.filter(|_| state.growing.is_none_or(|new| index < new)))
            };
            let Some(block) = block else {
                self.make_block(index).await?;
                continue;
            };
            let at = {
                let state = &mut *self.state.borrow_mut();
                let hint = state.hint;
                if hint / self.geometry.counts() != index {
                    continue;
                }
                let (at, _) = self.count_place(block, hint);
                if state.slices.get(at).is_some() {
                    if let Some((first, count)) = self.take_free(state, at, hint, want)? {
                        return self.given_out(state, first, count);
                    }
                    continue;
                }
                at
            };
            self.load(at, Kind::Block).await?;
        }
    }

    /// Looks for free clusters from `hint` on, in the slice at `at` that counts it, and takes them.
    /// Moves the hint past what is in use.
    fn take_free(
        &self,
        state: &mut State,
        at: u64,
        hint: u64,
        want: u64,
    ) -> Result<Option<(u64, u64)>, Failure> {
        let geometry = self.geometry;
        let per_slice = self.counts_per_slice();
        let begin = hint - hint % per_slice;
        let Some(slice) = state.slices.get(at) else {
            return Ok(None);
        };
        let is_free = |index: &u64| count::get(geometry, &slice.bytes, *index as usize) == 0;
        let Some(first) = (hint - begin..per_slice).find(|index| is_free(index)) else {
            state.hint = begin + per_slice;
            return Ok(None);
        };
        let end = (first + want.max(1)).min(per_slice);
        let count = (first..end).take_while(is_free).count() as u64;
        let taken = begin + first;
        if let Some((cluster, claim)) = state.claims.of(taken, count) {
            let at = cluster << geometry.cluster_bits;
            state.damage.get_or_insert_with(|| format!("{claim} at {at:#x} is not counted"));
            return Err(Failure::IO);
        }
        let end = (taken + count) << geometry.cluster_bits;
        if end > END_OF_OFFSETS {
            return Err(Failure::TOO_LARGE);
        }
        if !self.file.grows() && end > self.file.size()? {
            return Err(Failure::NO_SPACE);
        }
        state.slices.change(at, |slice| {
            for index in first..first + count {
                count::set(geometry, &mut slice.bytes, index as usize, 1);
            }
        });
        state.hint = taken + count;
        Ok(Some((taken, count)))
    }

    fn given_out(&self, state: &mut State, first: u64, count: u64) -> Result<Fresh, Failure> {
        let at = first << self.geometry.cluster_bits;
        let end = (first + count) << self.geometry.cluster_bits;
        let fresh = at >= state.fresh;
        if state.fresh < end {
            state.fresh = end;
        }
        for cluster in first..first + count {
            state.taken.insert(cluster);
            self.note(Record::Take { cluster });
        }
        Ok(Fresh { at, count, fresh })
    }

    /// A use of each of these clusters has ended. They are free after the next commit, if it was the
    /// last.
    pub(super) fn release(&self, first: u64, count: u64) {
        let state = &mut *self.state.borrow_mut();
        let packing = self.packing.get().map(|at| at >> self.geometry.cluster_bits);
        if packing.is_some_and(|cluster| (first..first + count).contains(&cluster)) {
            self.packing.take();
        }
        self.settled(state, first, count);
        for cluster in first..first + count {
            self.end_use(state, cluster);
        }
    }

    fn end_use(&self, state: &mut State, cluster: u64) {
        let (commit, op) = (state.begun + 1, state.first_op + state.ops.len() as u64);
        let number = state.next_free;
        state.next_free += 1;
        state.frees.push_back(Free { cluster, number, commit, op });
        self.note(Record::Free { cluster, number });
    }

    /// Clusters that were given out are nobody's after all. Nothing has ever referred to them, so they are
    /// free at once: a request that is tried until there is space takes the same ones again.
    pub(super) fn take_back(&self, first: u64, count: u64) {
        for cluster in first..first + count {
            let state = &mut *self.state.borrow_mut();
            let block = self.block(state, cluster / self.geometry.counts()).ok().flatten();
            let freed = block.and_then(|block| {
                let (at, index) = self.count_place(block, cluster);
                let geometry = self.geometry;
                let change = |slice: &mut super::slices::Slice| {
                    count::set(geometry, &mut slice.bytes, index, 0);
                };
                state.slices.change(at, change)
            });
            if freed.is_some() {
                state.taken.remove(&cluster);
                state.hint = state.hint.min(cluster);
                self.note(Record::Count { cluster, count: 0 });
            } else {
                state.taken.remove(&cluster);
                self.end_use(state, cluster);
            }
        }
    }

    /// Counts down what was released, as far as the file agrees and nobody can still look there.
    pub(super) async fn reclaim(&self) -> Outcome {
        while let Some(cluster) = self.next_reclaimable() {
            let count = self.count(cluster).await?;
            match count {
                0 => {
                    return Err(
                        self.damaged(format!("cluster {cluster:#x} is used but not counted"))
                    );
                }
                1 => {
                    if self.options.discard {
                        let at = cluster << self.geometry.cluster_bits;
                        self.file.discard(at, self.geometry.cluster()).await?;
                    }
                    let end = (cluster + 1) << self.geometry.cluster_bits;
                    let state = &mut *self.state.borrow_mut();
                    state.claims.remove(cluster, 1);
                    state.slices.purge(cluster << self.geometry.cluster_bits, end);
                    state.new_tables.remove(&(cluster << self.geometry.cluster_bits));
                }
                _ => {}
            }
            self.set_count(cluster, count - 1).await?;
            let state = &mut *self.state.borrow_mut();
            state.frees.pop_front();
            if count == 1 {
                state.hint = state.hint.min(cluster);
            }
        }
        Ok(())
    }

    fn next_reclaimable(&self) -> Option<u64> {
        let state = self.state.borrow();
        let free = state.frees.front()?;
        (free.commit <= state.durable && free.op <= state.first_op).then_some(free.cluster)
    }

    /// How often a cluster is used.
    pub(super) async fn count(&self, cluster: u64) -> Result<u64, Failure> {
        loop {
            let at = {
                let state = &mut *self.state.borrow_mut();
                let block = self.block(state, cluster / self.geometry.counts())?;
                let Some(block) = block else {
                    return Ok(0);
                };
                let (at, index) = self.count_place(block, cluster);
                if let Some(slice) = state.slices.get(at) {
                    return Ok(count::get(self.geometry, &slice.bytes, index));
                }
                at
            };
            self.load(at, Kind::Block).await?;
        }
    }

    /// Says how often a cluster is used, whose block exists.
    pub(super) async fn set_count(&self, cluster: u64, count: u64) -> Outcome {
        loop {
            let at = {
                let state = &mut *self.state.borrow_mut();
                let block = self.block(state, cluster / self.geometry.counts())?;
                let (at, index) = self.count_place(block.ok_or(Failure::IO)?, cluster);
                let geometry = self.geometry;
                let change = |slice: &mut super::slices::Slice| {
                    count::set(geometry, &mut slice.bytes, index, count);
                };
                if state.slices.change(at, change).is_some() {
                    break;
                }
                at
            };
            self.load(at, Kind::Block).await?;
        }
        self.note(Record::Count { cluster, count });
        Ok(())
    }

    /// The refcount block of that number.
    pub(super) fn block(&self, state: &State, index: u64) -> Result<Option<u64>, Failure> {
        let at = state.reftable.get(index as usize).copied().unwrap_or(0) & !511;
        match at {
            0 => Ok(None),
            at if self.geometry.is_start(at) => Ok(Some(at)),
            _ => Err(Failure::IO),
        }
    }

    /// Where a cluster is counted: the slice, and the number there.
    fn count_place(&self, block: u64, cluster: u64) -> (u64, usize) {
        let per_slice = self.counts_per_slice();
        let index = cluster % self.geometry.counts();
        (block + index / per_slice * self.geometry.slice(), (index % per_slice) as usize)
    }

    fn counts_per_slice(&self) -> u64 {
        (self.geometry.slice() * 8) >> self.geometry.refcount_order
    }

    /// Makes the block of that number, unless somebody else has meanwhile.
    async fn make_block(&self, index: u64) -> Outcome {
        let _making = self.structure.hold_all().await;
        // A table that has grown is named by the header first, if that failed when it grew.
        self.finish_growing().await?;
        let (there, in_table, cluster) = {
            let state = self.state.borrow();
            let there = self.block(&state, index)?.is_some();
            let first = state.hint.max(index * self.geometry.counts());
            (there, (index as usize) < state.reftable.len(), first)
        };
        // Or the part that was growing has become usable.
        if there {
            return Ok(());
        }
        if !in_table {
            return self.grow_table(index).await;
        }
        if cluster / self.geometry.counts() != index {
            return Ok(());
        }
        self.place_block(index, cluster, cluster..cluster + 1).await
    }

    /// Puts a block that counts each of `used` once into a cluster that nobody counts yet.
    pub(super) async fn place_block(&self, index: u64, cluster: u64, used: Range<u64>) -> Outcome {
        let at = cluster << self.geometry.cluster_bits;
        let end = at + self.geometry.cluster();
        if end > END_OF_OFFSETS {
            return Err(Failure::TOO_LARGE);
        }
        if at < self.state.borrow().fresh {
            self.file.zero(at, self.geometry.cluster()).await?;
        }
        let state = &mut *self.state.borrow_mut();
        let Some(entry) = state.reftable.get_mut(index as usize) else {
            return Err(Failure::IO);
        };
        *entry = at;
        state.reftable_dirty.insert((index * 8 / self.geometry.slice()) as usize);
        if state.fresh < end {
            state.fresh = end;
        }
        state.slices.purge(at, end);
        let claimed = state.claims.add(cluster, 1, Claim::Block);
        if let Err((_, claim)) = claimed {
            state.damage.get_or_insert_with(|| format!("{claim} at {at:#x} is not counted"));
            return Err(Failure::IO);
        }
        self.note(Record::Block { index, at });
        let counts = self.geometry.counts();
        for cluster in used.start.max(index * counts)..used.end.min((index + 1) * counts) {
            self.count_first(state, at, cluster);
        }
        Ok(())
    }

    /// Counts a cluster in a block that was empty a moment ago.
    fn count_first(&self, state: &mut State, block: u64, cluster: u64) {
        let (at, index) = self.count_place(block, cluster);
        if state.slices.get(at).is_none() {
            let zeroes = vec![0; self.geometry.slice() as usize].into_boxed_slice();
            let moment = state.slices.moment();
            state.slices.insert(at, Kind::Block, zeroes, moment);
        }
        let geometry = self.geometry;
        state.slices.change(at, |slice| count::set(geometry, &mut slice.bytes, index, 1));
        self.note(Record::Count { cluster, count: 1 });
    }

    /// Moves the refcount table to the end of the file, with room for block `index` and half as much
    /// again as it had.
    async fn grow_table(&self, index: u64) -> Outcome {
        let bits = self.geometry.cluster_bits;
        let per_cluster = self.geometry.cluster() / 8;
        // What lies behind is room.
        let used = self.file.size()?.min(self.state.borrow().fresh);
        let end = used.div_ceil(self.geometry.cluster());
        let first = end.max(index * self.geometry.counts());
        let (old_at, old_clusters) = {
            let state = self.state.borrow();
            (state.header.reftable_at, u64::from(state.header.reftable_clusters))
        };
        let first_block = first / self.geometry.counts();
        // Blocks count themselves and the table; more of them may make the table longer.
        let (mut blocks, mut clusters) = (1, old_clusters);
        loop {
            let needed = (first + blocks + clusters).div_ceil(self.geometry.counts()) - first_block;
            let wanted = (first_block + needed).div_ceil(per_cluster).max(old_clusters * 3 / 2 + 1);
            if (blocks, clusters) == (needed, wanted) {
                break;
            }
            (blocks, clusters) = (needed.max(blocks), wanted.max(clusters));
        }
        if clusters << bits > MOST_REFTABLE_BYTES {
            return Err(Failure::TOO_LARGE);
        }
        let old = self.state.borrow().reftable.clone();
        {
            let state = &mut *self.state.borrow_mut();
            state.reftable.resize((clusters * per_cluster) as usize, 0);
            state.growing = Some(first_block);
        }
        let done = self.fill_table(first, first_block, blocks, clusters).await;
        if let Err(failure) = done {
            let state = &mut *self.state.borrow_mut();
            state.reftable = old;
            state.growing = None;
            state.claims.remove(first, blocks);
            state.slices.purge(first << bits, (first + blocks) << bits);
            return Err(failure);
        }
        {
            let state = &mut *self.state.borrow_mut();
            state.header.reftable_at = (first + blocks) << bits;
            state.header.reftable_clusters = clusters as u32;
            state.header_dirty = true;
            let added = state.claims.add(first + blocks, clusters, Claim::Reftable);
            added.map_err(|_| Failure::IO)?;
        }
        self.release(old_at >> bits, old_clusters);
        // Only now may a successor find something counted in the part that is new.
        self.finish_growing().await
    }

    /// The new part of the table is used once the header names it, and not before: a successor that finds the old
    /// table knows nothing of what the new part counts.
    async fn finish_growing(&self) -> Outcome {
        if self.state.borrow().growing.is_some() {
            self.commit().await?;
            self.state.borrow_mut().growing = None;
        }
        Ok(())
    }

    /// Places the blocks for the new end of the file, counts them and the table, and writes the table.
    async fn fill_table(&self, first: u64, block: u64, blocks: u64, clusters: u64) -> Outcome {
        for number in 0..blocks {
            let used = first..first + blocks + clusters;
            self.place_block(block + number, first + number, used).await?;
        }
        let numbers = self.state.borrow().reftable.clone();
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
        let at = (first + blocks) << self.geometry.cluster_bits;
        {
            // Whatever becomes of the write, bytes of it may be there.
            let state = &mut *self.state.borrow_mut();
            state.fresh = state.fresh.max(at + bytes.len() as u64);
        }
        self.file.write(at, crate::memory::Heap::copy_of(&bytes).into()).await
    }
}
