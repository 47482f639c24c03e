//! Writing: in place where the cluster is the disk's alone, into fresh clusters otherwise.
//!
//! What a request leaves out of a granule is copied from where it was. Buffer and request go to the
//! file as one piece, so a cluster is filled by one write. A cluster beyond everything that was ever
//! written reads as zeroes and needs no filling: the usual case of a growing image writes guest data
//! and nothing else.

use super::Qcow2;
use super::compress::Packer;
use super::entry::{Granules, Mapping};
use super::read::Extent;
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// Most bytes for which clusters are taken at once.
const LONGEST_RUN: u64 = 4 << 20;

/// Clusters of the file that are to be filled for neighbouring clusters of the guest.
#[derive(Debug, Clone, Copy)]
struct Target {
    /// The first guest cluster.
    cluster: u64,
    /// How many.
    count: u64,
    /// Where they go.
    at: u64,
    /// They read as zeroes already.
    fresh: bool,
    /// What the granules were. Of several clusters nothing is kept.
    old: Granules,
}

impl<S: Storage> Qcow2<S> {
    /// Writes `from` to the disk. The range lies in it.
    pub async fn write(&self, at: u64, from: Memory) -> Outcome {
        self.writable()?;
        let _op = self.begin().await;
        self.make_room().await?;
        let len = from.len();
        let done = self.write_within(at, from).await;
        self.touch(at, len);
        done?;
        self.record().await
    }

    /// The same, as a part of an operation.
    pub(super) async fn write_within(&self, at: u64, from: Memory) -> Outcome {
        let mut done = 0;
        while done < from.len() {
            let part = from.part(done, from.len());
            done += self.write_some(at + done, part).await?;
        }
        Ok(())
    }

    /// Before every change: commits if memory or journal are nearly full.
    pub(super) async fn make_room(&self) -> Outcome {
        if self.shut.replace(false) {
            self.use_bitmaps().await?;
        }
        let crowded = self.state.borrow().slices.is_crowded() || self.journal.is_crowded();
        if crowded { self.commit().await } else { Ok(()) }
    }

    /// What is done is in the journal, or else in the file.
    pub(super) async fn record(&self) -> Outcome {
        if self.unrecorded.get() { self.commit().await } else { Ok(()) }
    }

    /// Writes the first bytes of `from`; how many.
    async fn write_some(&self, at: u64, from: Memory) -> Result<u64, Failure> {
        let (extent, len) = self.extent(at, from.len()).await?;
        if let Extent::Data { at: host, owned: true } = extent {
            if !self.is_external() {
                self.guard(host, len)?;
            }
            self.write_data(host, from.part(0, len)).await?;
            return Ok(len);
        }
        let geometry = self.geometry;
        let first = at >> geometry.cluster_bits;
        let rest = geometry.table_span() - at % geometry.table_span();
        let len = from.len().min(rest).min(LONGEST_RUN);
        let last = (at + len - 1) >> geometry.cluster_bits;
        let _held = self.clusters.hold(first..last + 1).await;
        self.own_table(first).await?;
        match self.target(first, last + 1 - first).await? {
            // Somebody else was faster.
            None => Ok(0),
            Some(target) => {
                let end = (target.cluster + target.count) << geometry.cluster_bits;
                let len = len.min(end - at);
                self.fill(target, at, from.part(0, len)).await?;
                Ok(len)
            }
        }
    }

    /// Fills granules of a guest cluster that is held, whose table is the disk's own.
    pub(super) async fn write_held(&self, cluster: u64, at: u64, from: Memory) -> Outcome {
        match self.target(cluster, 1).await? {
            None => Ok(()),
            Some(target) => self.fill(target, at, from).await,
        }
    }

    /// Where the first of these guest clusters is to be written, and as many more as need clusters too;
    /// `None`: in place, as it is.
    async fn target(&self, cluster: u64, count: u64) -> Result<Option<Target>, Failure> {
        let old = self.mapping(cluster).await?;
        if let Mapping::Plain(old @ Granules { host: Some(at), owned: true, .. }) = old {
            let whole = old.allocated == Granules::all(self.geometry);
            let target = Target { cluster, count: 1, at, fresh: false, old };
            return Ok((!whole).then_some(target));
        }
        let kept = match old {
            // Whatever granules of another's cluster hold is copied as a whole.
            Mapping::Plain(old) if old.host.is_none() => old,
            _ => Granules::default(),
        };
        let mut run = 1;
        while run < count && kept == Granules::default() {
            match self.mapping(cluster + run).await? {
                Mapping::Plain(next) if next == Granules::default() => run += 1,
                _ => break,
            }
        }
        if !matches!(old, Mapping::Plain(old) if old == Granules::default()) {
            run = 1;
        }
        let target = Target { cluster, count: run, at: 0, fresh: false, old: kept };
        if self.is_external() {
            return Ok(Some(Target { at: cluster << self.geometry.cluster_bits, ..target }));
        }
        let given = self.allocate(run).await?;
        Ok(Some(Target { at: given.at, count: given.count, fresh: given.fresh, ..target }))
    }

    /// Fills clusters for a request that lies in them, and enters them into the table.
    async fn fill(&self, target: Target, at: u64, from: Memory) -> Outcome {
        let begin = target.cluster << self.geometry.cluster_bits;
        let (first, last) = self.bounds(target, at, from.len()).await?;
        let done = self.fill_between(target, first, last, at, &from).await;
        if let Err(failure) = done {
            self.give_back(target);
            return Err(failure);
        }
        for index in 0..target.count {
            let start = begin + index * self.geometry.cluster();
            let touched = self.granules_between(start, first, last);
            self.enter(target, index, touched).await?;
        }
        Ok(())
    }

    /// The bytes that are to be filled: the request, up to the bounds of granules that are not there.
    async fn bounds(&self, target: Target, at: u64, len: u64) -> Result<(u64, u64), Failure> {
        let geometry = self.geometry;
        let begin = target.cluster << geometry.cluster_bits;
        let end = at + len;
        if self.copies_all(target).await? {
            return Ok((begin, begin + target.count * geometry.cluster()));
        }
        let there = |byte: u64| {
            let granule = (byte - begin) / geometry.granule();
            target.count == 1 && target.old.allocated >> (granule % 32) & 1 == 1
        };
        let granule = geometry.granule();
        let first = if there(at) { at } else { at / granule * granule };
        let last = if there(end - 1) { end } else { end.next_multiple_of(granule) };
        Ok((first, last))
    }

    /// Whether the old cluster's granules lie where they cannot stay: in another's cluster, or compressed.
    async fn copies_all(&self, target: Target) -> Result<bool, Failure> {
        Ok(match self.mapping(target.cluster).await? {
            Mapping::Compressed { .. } => true,
            Mapping::Plain(old) => {
                old.host.is_some_and(|host| host != target.at) && old.allocated != 0
            }
        })
    }

    /// Writes `from` at `at`, and around it, from `first` to `last`, what the disk has there.
    async fn fill_between(
        &self,
        target: Target,
        first: u64,
        last: u64,
        at: u64,
        from: &Memory,
    ) -> Outcome {
        let begin = target.cluster << self.geometry.cluster_bits;
        let end = at + from.len();
        if !self.is_external() {
            self.guard(target.at + (first - begin), last - first)?;
        }
        let host = |byte: u64| target.at + (byte - begin);
        let bare = (first, last) == (at, end);
        let (head, tail) = (at - first, last - end);
        if bare
            // Where nothing was written, the file has zeroes, and an encrypted disk rubbish.
            || (target.fresh
                && !self.is_encrypted()
                && self.is_zero(first, head).await? && self.is_zero(end, tail).await?)
        {
            return self.write_data(host(at), from.clone()).await;
        }
        let whole = Memory::from(Heap::zeroes((last - first) as usize));
        // The disk may end within its last cluster: the rest of that stays zeroes.
        let size = self.size();
        self.read_within(first, whole.part(0, head)).await?;
        let tail = tail.min(size.saturating_sub(end));
        self.read_within(end, whole.part(end - first, tail)).await?;
        from.copy_into(&whole.part(at - first, from.len()))?;
        self.write_data(host(first), whole).await
    }

    /// Whether a range is known to read as zeroes, without reading it.
    async fn is_zero(&self, at: u64, len: u64) -> Result<bool, Failure> {
        let mut done = 0;
        while done < len {
            let (extent, more) = self.extent(at + done, len - done).await?;
            let zero = match extent {
                Extent::Zero { .. } => true,
                Extent::Backing => self.backing().is_none_or(|backing| backing.size() <= at + done),
                _ => false,
            };
            if !zero {
                return Ok(false);
            }
            done += more;
        }
        Ok(true)
    }

    /// The granules of the cluster at `start` that lie between `first` and `last`.
    pub(super) fn granules_between(&self, start: u64, first: u64, last: u64) -> u32 {
        let granule = self.geometry.granule();
        let within = |byte: u64| byte.saturating_sub(start).min(self.geometry.cluster());
        let (from, to) = (within(first) / granule, within(last).div_ceil(granule));
        let below = |count: u64| ((1u64 << count) - 1) as u32;
        below(to) & !below(from)
    }

    /// Enters a filled cluster of the target, and releases what it replaces.
    async fn enter(&self, target: Target, index: u64, touched: u32) -> Outcome {
        let cluster = target.cluster + index;
        let old = self.mapping(cluster).await?;
        let host = target.at + (index << self.geometry.cluster_bits);
        let kept = match old {
            Mapping::Plain(old) if old.host == Some(host) => old,
            Mapping::Plain(old) => Granules { allocated: 0, ..old },
            Mapping::Compressed { .. } => Granules::default(),
        };
        let new = Granules {
            host: Some(host),
            owned: true,
            allocated: kept.allocated | touched,
            zero: kept.zero & !touched,
        };
        self.put(cluster, Mapping::Plain(new)).await?;
        self.release_mapping(old, Some(host));
        Ok(())
    }

    /// A mapping is replaced: its clusters are used once less, but for the one that stays.
    pub(super) fn release_mapping(&self, old: Mapping, stays: Option<u64>) {
        let bits = self.geometry.cluster_bits;
        match old {
            Mapping::Compressed { at, len } => {
                let (first, last) = (at >> bits, (at + len - 1) >> bits);
                self.unpacked.borrow_mut().take();
                self.release(first, last - first + 1);
            }
            Mapping::Plain(Granules { host: Some(at), .. })
                if stays != Some(at) && !self.is_external() =>
            {
                self.release(at >> bits, 1);
            }
            Mapping::Plain(_) => {}
        }
    }

    /// Clusters that were taken and could not be filled.
    fn give_back(&self, target: Target) {
        let was_there = target.old.host == Some(target.at);
        if !self.is_external() && !was_there {
            self.take_back(target.at >> self.geometry.cluster_bits, target.count);
        }
    }

    /// What compresses clusters for this image.
    pub fn packer(&self) -> Packer {
        Packer::new(self.state.borrow().header.compression, self.geometry.cluster())
    }

    /// Writes a whole cluster, the last of the disk perhaps in part, compressed if that is shorter.
    pub async fn write_compressed(&self, at: u64, from: Memory) -> Outcome {
        if from.len() > self.geometry.cluster() {
            return Err(Failure::INVALID);
        }
        let mut bytes = vec![0; from.len() as usize];
        from.copy_to(&mut bytes)?;
        match self.packer().pack(&bytes) {
            Some(packed) => self.write_packed(at, from.len(), &packed).await,
            None => self.write(at, from).await,
        }
    }

    /// Writes a whole cluster of `len` bytes, the last of the disk perhaps in part, as a
    /// [`packer`](Self::packer) has compressed it.
    pub async fn write_packed(&self, at: u64, len: u64, packed: &[u8]) -> Outcome {
        self.writable()?;
        let cluster = self.geometry.cluster();
        let whole = len == cluster || at.checked_add(len) == Some(self.size());
        // Compressed clusters are never encrypted: an encrypted image would show them.
        let may = !self.is_external() && !self.is_encrypted();
        if !self.geometry.is_start(at) || len > cluster || !whole || !may {
            return Err(Failure::INVALID);
        }
        let _op = self.begin().await;
        self.make_room().await?;
        let cluster = at >> self.geometry.cluster_bits;
        let _held = self.clusters.hold(cluster..cluster + 1).await;
        self.own_table(cluster).await?;
        let bytes = packed.len() as u64;
        let host = self.pack(bytes).await?;
        self.guard(host, bytes)?;
        self.file.write(host, Heap::copy_of(packed).into()).await?;
        let old = self.mapping(cluster).await?;
        self.put(cluster, Mapping::Compressed { at: host, len: bytes }).await?;
        self.release_mapping(old, None);
        self.touch(at, len);
        self.record().await
    }

    /// Finds a place for compressed bytes: behind the last ones, on into the next cluster if that is
    /// free, or in a fresh cluster.
    async fn pack(&self, len: u64) -> Result<u64, Failure> {
        let size = self.geometry.cluster();
        let Some(at) = self.packing.take() else {
            return self.pack_afresh(len).await;
        };
        let shared = at >> self.geometry.cluster_bits;
        let count = self.count(shared).await?;
        if count == self.geometry.most() {
            return self.pack_afresh(len).await;
        }
        if size - at % size < len {
            let next = self.allocate(1).await?.at;
            if next != (shared + 1) << self.geometry.cluster_bits {
                self.packing.set(self.rest(next + len));
                return Ok(next);
            }
        }
        self.set_count(shared, count + 1).await?;
        self.packing.set(self.rest(at + len));
        Ok(at)
    }

    async fn pack_afresh(&self, len: u64) -> Result<u64, Failure> {
        let at = self.allocate(1).await?.at;
        self.packing.set(self.rest(at + len));
        Ok(at)
    }

    fn rest(&self, at: u64) -> Option<u64> {
        (!self.geometry.is_start(at)).then_some(at)
    }
}
