//! Pieces of L2 tables and refcount blocks in memory, with a bound.
//!
//! A **slice** is 4 KiB of a metadata cluster (all of it where clusters are smaller), known by where it
//! is in the file. Changed slices stay until a commit has written them; others leave when room is
//! needed, the least recently used first.
//!
//! Law: a slice in memory is newer than the file. Whoever reads one from the file puts it here only if
//! nothing has left since it began ([`Slices::insert`]): the file may have changed behind its read.

use std::collections::HashMap;

/// What a slice is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An L2 table.
    Table,
    /// A refcount block.
    Block,
}

/// One of them.
#[derive(Debug)]
pub struct Slice {
    /// Its bytes.
    pub bytes: Box<[u8]>,
    /// What it is part of.
    pub kind: Kind,
    /// Changes so far, counted over all slices so that no two are the same.
    pub version: u64,
    /// The version that is in the file.
    pub written: u64,
    /// When it was last looked at.
    used: u64,
}

impl Slice {
    /// Whether the file has an older one.
    pub fn is_dirty(&self) -> bool {
        self.version != self.written
    }

    /// The big-endian number at `at`.
    pub fn number(&self, at: usize) -> u64 {
        let bytes = self.bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_be_bytes(bytes.unwrap_or_default())
    }

    /// Changes the big-endian number at `at`.
    pub fn set_number(&mut self, at: usize, number: u64) {
        if let Some(bytes) = self.bytes.get_mut(at..at + 8) {
            bytes.copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Slices {
    slices: HashMap<u64, Slice>,
    /// How many may be here.
    room: usize,
    dirty: usize,
    clock: u64,
    versions: u64,
    /// Slices that have left so far.
    left: u64,
}

impl Slices {
    /// Room for `room` slices.
    pub fn new(room: usize) -> Self {
        Self { slices: HashMap::new(), room, dirty: 0, clock: 0, versions: 0, left: 0 }
    }

    /// These take the place of others: what was being read for those is too old for these.
    pub fn succeed(&mut self, others: &Self) {
        self.left = others.left + 1;
    }

    /// What [`insert`](Self::insert) wants to know of the moment at which a read began.
    pub fn moment(&self) -> u64 {
        self.left
    }

    /// The slice at `at`, if it is here.
    pub fn get(&mut self, at: u64) -> Option<&Slice> {
        self.clock += 1;
        let slice = self.slices.get_mut(&at)?;
        slice.used = self.clock;
        Some(slice)
    }

    /// Changes a slice, which is dirty then; `None` if it is not here.
    pub fn change<T>(&mut self, at: u64, change: impl FnOnce(&mut Slice) -> T) -> Option<T> {
        let slice = self.slices.get_mut(&at)?;
        self.versions += 1;
        self.clock += 1;
        self.dirty += usize::from(!slice.is_dirty());
        slice.version = self.versions;
        slice.used = self.clock;
        Some(change(slice))
    }

    /// Adds a slice as the file had it at `moment` or later. `false`: something has left since, so the
    /// bytes may be old.
    pub fn insert(&mut self, at: u64, kind: Kind, bytes: Box<[u8]>, moment: u64) -> bool {
        if self.slices.contains_key(&at) {
            return true;
        }
        if moment != self.left {
            return false;
        }
        self.make_room();
        self.clock += 1;
        let used = self.clock;
        self.slices.insert(at, Slice { bytes, kind, version: 0, written: 0, used });
        true
    }

    /// Forgets what is known of a cluster that is something else now.
    pub fn purge(&mut self, from: u64, to: u64) {
        self.left += 1;
        self.slices.retain(|at, slice| {
            let keep = !(from..to).contains(at);
            self.dirty -= usize::from(!keep && slice.is_dirty());
            keep
        });
    }

    /// The changed ones with their places, in the order of the file.
    pub fn dirty(&self) -> Vec<(u64, &Slice)> {
        let mut dirty: Vec<_> = self
            .slices
            .iter()
            .filter(|(_, slice)| slice.is_dirty())
            .map(|(at, s)| (*at, s))
            .collect();
        dirty.sort_unstable_by_key(|(at, _)| *at);
        dirty
    }

    /// How many have changed.
    pub fn count_dirty(&self) -> usize {
        self.dirty
    }

    /// Whether so many have changed that a commit should come before the next change.
    pub fn is_crowded(&self) -> bool {
        self.dirty >= self.room / 2
    }

    /// The file has that version of the slice now.
    pub fn wrote(&mut self, at: u64, version: u64) {
        if let Some(slice) = self.slices.get_mut(&at)
            && slice.is_dirty()
        {
            slice.written = version;
            self.dirty -= usize::from(!slice.is_dirty());
        }
    }

    fn make_room(&mut self) {
        if self.slices.len() < self.room {
            return;
        }
        // A sixteenth at a time: looking for the oldest costs a look at all.
        let mut clean: Vec<(u64, u64)> = self
            .slices
            .iter()
            .filter(|(_, slice)| !slice.is_dirty())
            .map(|(at, slice)| (slice.used, *at))
            .collect();
        clean.sort_unstable();
        for (_, at) in clean.into_iter().take((self.room / 16).max(1)) {
            self.slices.remove(&at);
            self.left += 1;
        }
    }
}
