//! Write-zeroes and discard: clusters that need no bytes.

use super::Qcow2;
use super::entry::{Granules, Mapping};
use super::read::Extent;
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// Bytes of zeroes in memory, for parts of granules.
const PIECE: u64 = 64 * 1024;

/// What the clusters of a range are to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Zeroes; the clusters stay the disk's.
    Zero,
    /// Zeroes; the clusters are given back.
    Unmap,
}

impl<S: Storage> Qcow2<S> {
    /// The range reads as zeroes; with `unmap` its clusters may be given back.
    pub async fn zero(&self, at: u64, len: u64, unmap: bool) -> Outcome {
        self.writable()?;
        let _op = self.begin().await;
        let done = self.zero_within(at, len, unmap).await;
        self.touch(at, len);
        done?;
        self.record().await
    }

    pub(super) async fn zero_within(&self, at: u64, len: u64, unmap: bool) -> Outcome {
        self.make_room().await?;
        if self.is_raw_outside() {
            self.guest_data().zero(at, len).await?;
        }
        let wish = if unmap { Wish::Unmap } else { Wish::Zero };
        let granule = self.geometry.granule();
        let end = at + len;
        // A disk that ends within a granule has zeroes behind its end.
        let whole_end = if end == self.size() { end } else { end / granule * granule };
        let whole = at.next_multiple_of(granule)..whole_end;
        if self.version < 3 || whole.start >= whole.end {
            self.zero_v2(at, end).await?;
        } else {
            self.write_zeroes(at, whole.start).await?;
            self.each_cluster(whole.start, whole.end, wish).await?;
            self.write_zeroes(whole.end, end).await?;
        }
        Ok(())
    }

    /// The range is no longer needed. Whole clusters of it are given back and read as zeroes.
    pub async fn discard(&self, at: u64, len: u64) -> Outcome {
        self.writable()?;
        let _op = self.begin().await;
        let done = self.discard_within(at, len).await;
        self.touch(at, len);
        done?;
        self.record().await
    }

    async fn discard_within(&self, at: u64, len: u64) -> Outcome {
        self.make_room().await?;
        if self.is_raw_outside() {
            return self.guest_data().discard(at, len).await;
        }
        // Version 2 has no zeroes of its own: with a backing file the old bytes would come back.
        if self.version < 3 && self.has_backing() {
            return Ok(());
        }
        let cluster = self.geometry.cluster();
        let end = at + len;
        let end = if end == self.size() { end } else { self.geometry.start(end) };
        let begin = at.next_multiple_of(cluster);
        if begin < end {
            self.each_cluster(begin, end, Wish::Unmap).await?;
        }
        Ok(())
    }

    pub(super) fn is_raw_outside(&self) -> bool {
        self.is_external() && self.state.borrow().header.is_data_file_raw()
    }

    /// Version 2: a cluster that is not there reads as zeroes, unless there is a backing file.
    async fn zero_v2(&self, at: u64, end: u64) -> Outcome {
        let cluster = self.geometry.cluster();
        let whole_end = if end == self.size() { end } else { self.geometry.start(end) };
        let begin = at.next_multiple_of(cluster);
        if self.version > 2 || self.has_backing() || begin >= whole_end {
            return self.write_zeroes(at, end).await;
        }
        self.write_zeroes(at, begin).await?;
        self.each_cluster(begin, whole_end, Wish::Unmap).await?;
        self.write_zeroes(whole_end, end).await
    }

    /// Writes zeroes where the disk is not known to have some.
    pub(super) async fn write_zeroes(&self, at: u64, end: u64) -> Outcome {
        let mut at = at;
        while at < end {
            let (extent, len) = self.extent(at, (end - at).min(PIECE)).await?;
            let zero = match extent {
                Extent::Zero { .. } => true,
                Extent::Backing => !self.has_backing(),
                _ => false,
            };
            if !zero {
                let zeroes = Memory::from(Heap::zeroes(len as usize));
                self.make_room().await?;
                self.write_within(at, zeroes).await?;
            }
            at += len;
        }
        Ok(())
    }

    /// Changes the entries of whole granules.
    pub(super) async fn each_cluster(&self, begin: u64, end: u64, wish: Wish) -> Outcome {
        let geometry = self.geometry;
        let mut at = begin;
        while at < end {
            // As far as nothing would change at all there is nothing to do.
            let (extent, len) = self.extent(at, end - at).await?;
            let stays = match extent {
                Extent::Zero { at: None } => true,
                Extent::Zero { at: Some(_) } => wish == Wish::Zero,
                Extent::Backing => !self.has_backing() || self.version < 3,
                _ => false,
            };
            if stays {
                at += len;
                continue;
            }
            let cluster = at >> geometry.cluster_bits;
            let next = ((cluster + 1) << geometry.cluster_bits).min(end);
            let whole = geometry.is_start(at) && (geometry.is_start(next) || next == self.size());
            if matches!(extent, Extent::Compressed { .. }) && !whole {
                self.write_zeroes(at, next).await?;
                at = next;
                continue;
            }
            let _held = self.clusters.hold(cluster..cluster + 1).await;
            self.own_table(cluster).await?;
            self.change_cluster(cluster, at, next, wish).await?;
            at = next;
        }
        Ok(())
    }

    async fn change_cluster(&self, cluster: u64, at: u64, end: u64, wish: Wish) -> Outcome {
        let geometry = self.geometry;
        let begin = cluster << geometry.cluster_bits;
        let all = Granules::all(geometry);
        let granule = geometry.granule();
        let count = |bytes: u64| bytes.div_ceil(granule);
        let below = |count: u64| ((1u64 << count) - 1) as u32;
        let touched = below(count(end - begin)) & !below((at - begin) / granule);
        // The granules behind the end of the disk are nobody's.
        let touched =
            if end == self.size() { touched | !below(count(end - begin)) & all } else { touched };
        let old = self.mapping(cluster).await?;
        let new = match old {
            Mapping::Plain(old) => {
                let allocated = old.allocated & !touched;
                let zero = old.zero | touched;
                let keeps = old.owned && (wish == Wish::Zero || allocated != 0);
                let gone = allocated == 0 && !keeps;
                let host = if gone { None } else { old.host };
                if !keeps && allocated != 0 {
                    // Another uses it too: it stays where it is, and so does the count.
                    return self
                        .put(cluster, Mapping::Plain(Granules { allocated, zero, ..old }))
                        .await;
                }
                Granules { host, owned: host.is_some() && old.owned, allocated, zero }
            }
            Mapping::Compressed { .. } if touched == all => {
                Granules { zero: all, ..Granules::default() }
            }
            // A part of a compressed cluster: unpack it first.
            Mapping::Compressed { .. } => return Err(Failure::UNSUPPORTED),
        };
        let new = match self.version < 3 {
            true => Granules::default(),
            false => new,
        };
        self.put(cluster, Mapping::Plain(new)).await?;
        self.release_mapping(old, new.host);
        Ok(())
    }
}
