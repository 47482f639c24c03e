//! Another size for the disk.

use super::geometry::Geometry;
use super::header::MOST_L1_BYTES;
use super::shadow::Shadow;
use super::zero::Wish;
use super::{Granules, Mapping, Qcow2};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

impl<S: Storage> Qcow2<S> {
    /// Makes the disk `size` bytes long, a multiple of 512. What is added reads as zeroes, what is cut off
    /// is gone. As in QEMU, version 2 images with internal snapshots keep their size: their snapshots do
    /// not say how large the disk was.
    pub async fn resize(&self, size: u64) -> Outcome {
        self.writable()?;
        self.make_room().await?;
        let old = self.size();
        if self.version < 3 && !self.state.borrow().snapshots.is_empty() {
            return Err(Failure::UNSUPPORTED);
        }
        // A longer backing file must not show in the part that is new.
        let hidden = self.backing().map_or(0, |layer| layer.size()).min(size);
        if self.version < 3 && hidden > old {
            return Err(Failure::UNSUPPORTED);
        }
        if size < old {
            self.cut(size, old).await?;
        }
        let entries = self.geometry.l1_entries(size);
        if entries * 8 > MOST_L1_BYTES || size > i64::MAX as u64 {
            return Err(Failure::TOO_LARGE);
        }
        if entries > self.l1_room() {
            self.move_l1(entries).await?;
        }
        self.lengthen_l1(entries);
        if size > old {
            self.blank(old, size, hidden).await?;
            // A commit writes the header before tables: what it is to show must be there already.
            self.commit().await?;
        }
        {
            let state = &mut *self.state.borrow_mut();
            state.header.size = size;
            // Its entries are in the file since that commit: what was there before may be anything.
            state.header.l1_entries = state.l1.len() as u32;
            state.header_dirty = true;
        }
        self.resize_bitmaps(size);
        self.close().await
    }

    fn lengthen_l1(&self, entries: u64) {
        let state = &mut *self.state.borrow_mut();
        let had = state.l1.len() as u64;
        if entries > had {
            state.l1.resize(entries as usize, 0);
            let slice = self.geometry.slice() / 8;
            let slices = had / slice..entries.div_ceil(slice);
            state.l1_dirty.extend(slices.map(|index| index as usize));
        }
    }

    /// Gives back the clusters behind the new end. With version 2 that is more than a discard may do: what
    /// lies below shows, and is cut off as well.
    async fn cut(&self, size: u64, old: u64) -> Outcome {
        if self.version > 2 || !self.has_backing() {
            return self.discard(size, old - size).await;
        }
        let _op = self.begin().await;
        self.make_room().await?;
        let begin = size.next_multiple_of(self.geometry.cluster());
        if begin < old {
            self.each_cluster(begin, old, Wish::Unmap).await?;
        }
        self.record().await
    }

    /// Zeroes behind the end of the disk, before that moves: whoever sees the new size, after a crash as
    /// well, sees them. The last cluster may have bytes there of a disk that was longer before.
    async fn blank(&self, old: u64, size: u64, hidden: u64) -> Outcome {
        let _op = self.begin().await;
        self.make_room().await?;
        if self.is_raw_outside() {
            // Whoever reads the data file by itself finds all of the disk.
            return self.guest_data().zero(old, size - old).await;
        }
        let cluster = self.geometry.cluster();
        let tail = old.next_multiple_of(cluster);
        self.write_zeroes(old, tail.min(size)).await?;
        if hidden > tail {
            // Whole clusters: the end of the disk is elsewhere as yet.
            self.zero_within(tail, hidden.next_multiple_of(cluster) - tail, true).await?;
        }
        self.record().await
    }

    /// An L1 table with room for more, elsewhere.
    async fn move_l1(&self, entries: u64) -> Outcome {
        let mut shadow = Shadow::begin(self).await?;
        shadow.set_l1(self.l1_in_use(), entries).await?;
        shadow.finish().await
    }

    /// Entries for which the clusters of the L1 table have room.
    fn l1_room(&self) -> u64 {
        let entries = u64::from(self.state.borrow().header.l1_entries).max(1);
        (entries * 8).next_multiple_of(self.geometry.cluster()).min(MOST_L1_BYTES) / 8
    }

    /// Gives every cluster of the disk a place in the file. What they read as is what the host has there.
    pub async fn preallocate(&self) -> Outcome {
        self.writable()?;
        let _op = self.begin().await;
        let clusters = self.size().div_ceil(self.geometry.cluster());
        let mut cluster = 0;
        while cluster < clusters {
            self.make_room().await?;
            self.own_table(cluster).await?;
            let rest = self.geometry.entries() - cluster % self.geometry.entries();
            let (at, count) = match self.is_external() {
                true => (cluster << self.geometry.cluster_bits, rest.min(clusters - cluster)),
                false => {
                    let given = self.allocate(rest.min(clusters - cluster)).await?;
                    (given.at, given.count)
                }
            };
            for index in 0..count {
                let host = at + (index << self.geometry.cluster_bits);
                self.put(cluster + index, placed(self.geometry, host)).await?;
            }
            cluster += count;
        }
        Ok(())
    }

    /// Where the file would end if every cluster given out were full.
    pub fn end(&self) -> u64 {
        self.state.borrow().hint << self.geometry.cluster_bits
    }
}

fn placed(geometry: Geometry, host: u64) -> Mapping {
    let allocated = Granules::all(geometry);
    Mapping::Plain(Granules { host: Some(host), owned: true, allocated, zero: 0 })
}
