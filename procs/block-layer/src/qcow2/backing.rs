//! What lies below an image: the layer, its name in the header, and taking bytes over from it.

use super::entry::{Granules, Mapping};
use super::header::replace;
use super::read::Extent;
use super::{Layer, Qcow2};
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// Longest name, as in QEMU.
const LONGEST_NAME: usize = 1023;

impl<S: Storage> Qcow2<S> {
    /// The next layer.
    pub fn backing(&self) -> Option<Layer<S>> {
        self.backing.borrow().clone()
    }

    pub(super) fn has_backing(&self) -> bool {
        self.backing.borrow().is_some()
    }

    /// Another next layer, or none; what the header names stays.
    pub fn set_backing(&self, backing: Option<Layer<S>>) {
        *self.backing.borrow_mut() = backing;
    }

    /// Names another backing file, and its format, in the header; durable when it returns. Bytes that
    /// the image has not itself must read the same with both.
    pub async fn name_backing(&self, named: Option<(&str, &str)>) -> Outcome {
        self.writable()?;
        if named.is_some_and(|(name, _)| name.len() > LONGEST_NAME) {
            return Err(Failure::INVALID);
        }
        let _alone = self.alone().await?;
        let mut header = self.header();
        header.backing = named.map(|(name, _)| name.to_owned());
        header.extensions.backing_format = named.map(|(_, format)| format.to_owned());
        self.switch(&header).await
    }

    /// The same of an image that is only read by now, though it may have been opened for more: through `file`, which
    /// is its file opened for writing. The file says all there is to say, and nobody writes it meanwhile.
    pub async fn name_backing_through(&self, file: &S, named: Option<(&str, &str)>) -> Outcome {
        if named.is_some_and(|(name, _)| name.len() > LONGEST_NAME) {
            return Err(Failure::INVALID);
        }
        let (was, prologue) = {
            let state = self.state.borrow();
            (state.header.clone(), state.prologue.clone())
        };
        let mut header = was.clone();
        header.backing = named.map(|(name, _)| name.to_owned());
        header.extensions.backing_format = named.map(|(_, format)| format.to_owned());
        let new = replace(&prologue, &was, &header).ok_or(Failure::TOO_LARGE)?;
        for (at, bytes) in new.name.into_iter().chain([(0, new.first)]) {
            file.write(at, Heap::copy_of(&bytes).into()).await?;
            file.sync().await?;
            let prologue = &mut self.state.borrow_mut().prologue;
            if let Some(old) = prologue.get_mut(at as usize..at as usize + bytes.len()) {
                old.copy_from_slice(&bytes);
            }
        }
        self.state.borrow_mut().header = header;
        Ok(())
    }

    /// Where the bytes at `at` are, and how many of `len` follow them there.
    pub(super) async fn whereabouts(&self, at: u64, len: u64) -> Result<(Extent, u64), Failure> {
        let _op = self.begin().await;
        self.extent(at, len).await
    }

    /// Where a guest cluster is that is written in place, all of it: for lanes. `None`: nowhere, or nobody
    /// knows without reading.
    pub fn placed(&self, cluster: u64) -> Option<u64> {
        self.writable().ok()?;
        let state = &mut *self.state.borrow_mut();
        let place = self.place(state, cluster).ok()??;
        match self.peek(state, place).ok()?? {
            Mapping::Plain(Granules { host: Some(host), owned: true, allocated, .. })
                if allocated == Granules::all(self.geometry) =>
            {
                let first = host >> self.geometry.cluster_bits;
                let free = self.is_external() || state.claims.of(first, 1).is_none();
                free.then_some(host)
            }
            _ => None,
        }
    }

    /// The same for whoever writes there without asking again. A cluster that the counts call free is given out
    /// once more some day, perhaps for a table: such an image contradicts itself, and is not written any more.
    pub async fn lendable(&self, cluster: u64) -> Option<u64> {
        let host = self.placed(cluster)?;
        if !self.is_external() {
            match self.count(host >> self.geometry.cluster_bits).await {
                Ok(0) => {
                    self.damaged(format!("guest data at {host:#x} is not counted"));
                    return None;
                }
                Ok(1) => {}
                Ok(_) | Err(_) => return None,
            }
        }
        // Or it has moved meanwhile.
        self.placed(cluster).filter(|now| *now == host)
    }

    /// Makes what the range reads as the image's own, where it comes from the backing file.
    pub async fn adopt(&self, at: u64, len: u64) -> Outcome {
        self.writable()?;
        let end = (at + len).min(self.size());
        let mut at = at;
        while at < end {
            let (extent, len) = self.extent(at, end - at).await?;
            let size = match self.backing() {
                Some(backing) if extent == Extent::Backing => backing.size(),
                _ => 0,
            };
            // Behind the end of the backing file are zeroes, with it or without.
            if size <= at {
                at += len;
                continue;
            }
            let cluster = at >> self.geometry.cluster_bits;
            self.adopt_cluster(cluster).await?;
            at = (cluster + 1) << self.geometry.cluster_bits;
        }
        Ok(())
    }

    async fn adopt_cluster(&self, cluster: u64) -> Outcome {
        let _op = self.begin().await;
        self.make_room().await?;
        let _held = self.clusters.hold(cluster..cluster + 1).await;
        let begin = cluster << self.geometry.cluster_bits;
        let end = (begin + self.geometry.cluster()).min(self.size());
        let mut at = begin;
        while at < end {
            let (extent, len) = self.extent(at, end - at).await?;
            if extent == Extent::Backing {
                self.adopt_granules(cluster, at, len).await?;
            }
            at += len;
        }
        self.record().await
    }

    /// Granules of one cluster, which is held. `at` starts one.
    async fn adopt_granules(&self, cluster: u64, at: u64, len: u64) -> Outcome {
        let memory = Memory::from(Heap::zeroes(len as usize));
        self.read_backing(at, memory.clone()).await?;
        self.own_table(cluster).await?;
        let zero = memory.is_zero()?;
        let old = self.mapping(cluster).await?;
        let all = Granules::all(self.geometry);
        let bare = matches!(old, Mapping::Plain(Granules { allocated: 0, host: None, .. }));
        if zero && self.version > 2 && (bare || all != 1) {
            let touched =
                self.granules_between(cluster << self.geometry.cluster_bits, at, at + len);
            if let Mapping::Plain(old) = old {
                let zero = old.zero | touched;
                return self.put(cluster, Mapping::Plain(Granules { zero, ..old })).await;
            }
        }
        self.write_held(cluster, at, memory).await
    }
}
