//! The way from a guest cluster to its entry, and back into the table.

use super::claims::Claim;
use super::entry::Mapping;
use super::geometry::OFFSET;
use super::journal::Record;
use super::slices::Kind;
use super::{Qcow2, State};
use crate::memory::{Heap, Memory};
use crate::outcome::{Failure, Outcome};
use crate::storage::Storage;

/// The bit of an L1 entry that says that nobody else uses the table.
const COPIED: u64 = 1 << 63;

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its slice.
    pub(super) slice: u64,
    /// Its first byte there.
    pub(super) offset: usize,
}

/// The entries of an L1 table up to the last one that is in use: a table may only claim to be long.
pub(super) fn in_use(mut l1: Vec<u64>) -> Vec<u64> {
    l1.truncate(l1.iter().rposition(|entry| *entry != 0).map_or(0, |last| last + 1));
    l1.shrink_to_fit();
    l1
}

impl<S: Storage> Qcow2<S> {
    /// A copy of the L1 table up to the last entry that is in use.
    pub(super) fn l1_in_use(&self) -> Vec<u64> {
        let l1 = &self.state.borrow().l1;
        let used = l1.iter().rposition(|entry| *entry != 0).map_or(0, |last| last + 1);
        l1.get(..used).unwrap_or_default().to_vec()
    }

    /// Reads a slice into memory if it is not there.
    pub(super) async fn load(&self, at: u64, kind: Kind) -> Outcome {
        loop {
            let moment = {
                let slices = &mut self.state.borrow_mut().slices;
                if slices.get(at).is_some() {
                    return Ok(());
                }
                slices.moment()
            };
            let heap = Heap::zeroes(self.geometry.slice() as usize);
            self.file.read(at, heap.clone().into()).await?;
            let bytes = heap.to_vec().into_boxed_slice();
            if self.state.borrow_mut().slices.insert(at, kind, bytes, moment) {
                return Ok(());
            }
        }
    }

    /// Where the entry of a guest cluster is; `None`: its table does not exist.
    pub(super) fn place(&self, state: &State, cluster: u64) -> Result<Option<Place>, Failure> {
        let geometry = self.geometry;
        let entries = geometry.entries();
        let table = state.l1.get((cluster / entries) as usize).copied().unwrap_or(0) & OFFSET;
        if table == 0 {
            return Ok(None);
        }
        if !geometry.is_start(table) {
            return Err(Failure::IO);
        }
        let byte = cluster % entries * geometry.entry();
        let slice = table + byte / geometry.slice() * geometry.slice();
        Ok(Some(Place { slice, offset: (byte % geometry.slice()) as usize }))
    }

    /// Reads an entry of a slice that is in memory; `None`: it is not.
    pub(super) fn peek(&self, state: &mut State, place: Place) -> Result<Option<Mapping>, Failure> {
        let Some(slice) = state.slices.get(place.slice) else {
            return Ok(None);
        };
        let descriptor = slice.number(place.offset);
        let bitmap = if self.geometry.extended { slice.number(place.offset + 8) } else { 0 };
        let external = self.is_external();
        match Mapping::decode(self.geometry, self.version, external, descriptor, bitmap) {
            Ok(mapping) => Ok(Some(mapping)),
            Err(bad) => {
                state.damage.get_or_insert_with(|| format!("{bad} is wrong"));
                Err(Failure::IO)
            }
        }
    }

    /// The entry of a guest cluster.
    pub(super) async fn mapping(&self, cluster: u64) -> Result<Mapping, Failure> {
        loop {
            let place = {
                let state = &mut *self.state.borrow_mut();
                let Some(place) = self.place(state, cluster)? else {
                    return Ok(Mapping::Plain(super::Granules::default()));
                };
                if let Some(mapping) = self.peek(state, place)? {
                    return Ok(mapping);
                }
                place
            };
            self.load(place.slice, Kind::Table).await?;
        }
    }

    /// Changes the entry of a guest cluster, whose table belongs to the disk alone by now.
    pub(super) async fn put(&self, cluster: u64, mapping: Mapping) -> Outcome {
        let (descriptor, bitmap) = mapping.encode(self.geometry);
        self.put_numbers(cluster, descriptor, bitmap).await
    }

    pub(super) async fn put_numbers(&self, cluster: u64, descriptor: u64, bitmap: u64) -> Outcome {
        loop {
            let place = {
                let state = &mut *self.state.borrow_mut();
                let place = self.place(state, cluster)?.ok_or(Failure::IO)?;
                let done = state.slices.change(place.slice, |slice| {
                    slice.set_number(place.offset, descriptor);
                    if self.geometry.extended {
                        slice.set_number(place.offset + 8, bitmap);
                    }
                });
                if done.is_some() {
                    break;
                }
                place
            };
            self.load(place.slice, Kind::Table).await?;
        }
        self.note(Record::Entry { cluster, descriptor, bitmap });
        self.settle_entry(descriptor, bitmap);
        Ok(())
    }

    /// What an entry refers to is in use.
    fn settle_entry(&self, descriptor: u64, bitmap: u64) {
        let (geometry, external) = (self.geometry, self.is_external());
        let bits = geometry.cluster_bits;
        let mapping = Mapping::decode(geometry, self.version, external, descriptor, bitmap);
        let state = &mut *self.state.borrow_mut();
        match mapping {
            Ok(Mapping::Plain(super::Granules { host: Some(at), .. })) if !external => {
                self.settled(state, at >> bits, 1);
            }
            Ok(Mapping::Compressed { at, len }) => {
                let (first, last) = (at >> bits, (at + len - 1) >> bits);
                self.settled(state, first, last + 1 - first);
            }
            _ => {}
        }
    }

    /// Makes sure that the L2 table of a guest cluster exists and is the disk's alone.
    pub(super) async fn own_table(&self, cluster: u64) -> Outcome {
        let index = cluster / self.geometry.entries();
        if self.owns_table(index) {
            return Ok(());
        }
        let _making = self.making.hold(index..index + 1).await;
        if self.owns_table(index) {
            return Ok(());
        }
        let old = self.state.borrow().l1.get(index as usize).copied().unwrap_or(0) & OFFSET;
        if !self.geometry.is_start(old) {
            return Err(self.damaged(format!("the L2 table at {old:#x} is not aligned")));
        }
        let new = self.allocate(1).await?;
        let cluster = self.geometry.cluster();
        let done = match old {
            0 if new.fresh => self.begin_table(new.at),
            0 => self.file.zero(new.at, cluster).await,
            // Nobody writes a table that is not the disk's alone, so the file has all of it.
            old => self.copy_table(old, new.at, cluster).await,
        };
        if let Err(failure) = done {
            self.take_back(new.at >> self.geometry.cluster_bits, 1);
            return Err(failure);
        }
        self.adopt_table(index, new.at)?;
        self.note(Record::Table { index, at: new.at });
        if old != 0 {
            self.release(old >> self.geometry.cluster_bits, 1);
        }
        Ok(())
    }

    /// A table of zeroes where the file has none yet. Part of it is written by the next commit, whatever
    /// becomes of the request: a table must not lie behind the end of the file.
    fn begin_table(&self, at: u64) -> Outcome {
        let slices = &mut self.state.borrow_mut().slices;
        let zeroes = vec![0; self.geometry.slice() as usize].into_boxed_slice();
        let moment = slices.moment();
        slices.insert(at, Kind::Table, zeroes, moment);
        slices.change(at, |_| ()).ok_or(Failure::IO)
    }

    fn owns_table(&self, index: u64) -> bool {
        let state = self.state.borrow();
        state.l1.get(index as usize).is_some_and(|entry| entry & COPIED != 0 && entry & OFFSET != 0)
    }

    async fn copy_table(&self, from: u64, to: u64, len: u64) -> Outcome {
        let memory = Memory::from(Heap::zeroes(len as usize));
        self.file.read(from, memory.clone()).await?;
        self.file.write(to, memory).await
    }

    /// Enters a filled table into the L1 table.
    pub(super) fn adopt_table(&self, index: u64, at: u64) -> Outcome {
        let state = &mut *self.state.borrow_mut();
        let cluster = at >> self.geometry.cluster_bits;
        let Some(entry) = state.l1.get_mut(index as usize) else {
            return Err(Failure::INVALID);
        };
        *entry = at | COPIED;
        state.l1_dirty.insert((index * 8 / self.geometry.slice()) as usize);
        state.new_tables.insert(at);
        self.settled(state, cluster, 1);
        state.claims.add(cluster, 1, Claim::Table).map_err(|(_, claim)| {
            state.damage.get_or_insert_with(|| format!("an L2 table at {at:#x} lies in {claim}"));
            Failure::IO
        })
    }
}
