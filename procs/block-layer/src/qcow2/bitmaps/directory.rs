//! The directory of bitmaps in the file, and the table of each.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use super::{LONGEST_NAME, MOST, MOST_GRANULES, Tracked};
use crate::bitmap::Bits;
use crate::qcow2::claims::Claim;
use crate::qcow2::geometry::{END_OF_OFFSETS, OFFSET};
use crate::qcow2::header::Header;
use crate::qcow2::open::{read_bytes, read_numbers};
use crate::qcow2::{OpenError, Qcow2};
use crate::storage::Storage;

/// Bytes of an entry without its texts.
const FIXED: usize = 24;

/// Most bytes of the directory: a hundred for each of as many as there can be. QEMU reads eight times as many.
const MOST_BYTES: u64 = 8 << 20;

/// Most entries of all tables together: those of inconsistent bitmaps may be of a disk of any size.
const MOST_ENTRIES: u64 = 1 << 21;

/// Somebody uses it, or died using it.
const IN_USE: u32 = 1 << 0;

/// Writes are recorded.
const AUTO: u32 = 1 << 1;

/// Who does not know the extra data may use it all the same.
const EXTRA_COMPATIBLE: u32 = 1 << 2;

/// The only type there is.
const DIRTY_TRACKING: u8 = 1;

/// An entry of a bitmap's table that is no place: all of its bits are set.
const ALL_SET: u64 = 1;

/// One entry of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the table is.
    pub at: u64,
    /// What it says: where the bits are, by clusters.
    pub table: Vec<u64>,
    entries: u32,
    flags: u32,
    bits: u8,
    extra: Vec<u8>,
    name: Vec<u8>,
}

impl Entry {
    pub(super) fn new(name: &str, granularity: u64) -> Self {
        Self {
            at: 0,
            table: Vec::new(),
            entries: 0,
            flags: 0,
            bits: granularity.ilog2() as u8,
            extra: Vec::new(),
            name: name.into(),
        }
    }

    pub(super) fn granularity(&self) -> u64 {
        1 << self.bits
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.flags & IN_USE != 0
    }

    pub(super) fn set_flags(&mut self, in_use: bool, enabled: bool) {
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        self.flags = self.flags & !(IN_USE | AUTO) | flag(in_use, IN_USE) | flag(enabled, AUTO);
    }

    pub(super) fn set_table(&mut self, at: u64, table: Vec<u64>) {
        self.entries = table.len() as u32;
        (self.at, self.table) = (at, table);
    }

    /// Its bytes, whole words.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.at.to_be_bytes());
        bytes.extend(self.entries.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend([DIRTY_TRACKING, self.bits]);
        bytes.extend((self.name.len() as u16).to_be_bytes());
        bytes.extend((self.extra.len() as u32).to_be_bytes());
        bytes.extend(&self.extra);
        bytes.extend(&self.name);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// Reads the entry at the start of `bytes`; how many it has.
    fn read(bytes: &[u8]) -> Result<(Self, usize), OpenError> {
        let number = |from: usize, len: usize| {
            let bytes = bytes.get(from..from + len).unwrap_or_default();
            bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
        };
        let wrong = |what: &str| Err(OpenError::Bitmaps(what.to_owned()));
        if bytes.len() < FIXED {
            return wrong("their directory ends within an entry");
        }
        let (kind, bits) = (number(16, 1) as u8, number(17, 1) as u8);
        let (name_len, extra_len) = (number(18, 2) as usize, number(20, 4) as usize);
        let flags = number(12, 4) as u32;
        if kind != DIRTY_TRACKING {
            return wrong("one is of a type that is not known here");
        }
        if !(9..=31).contains(&bits) {
            return wrong("the granularity of one is no power of two between 512 and 2G");
        }
        if flags & !(IN_USE | AUTO | EXTRA_COMPATIBLE) != 0 {
            return wrong("one has flags that are not known here");
        }
        if name_len == 0 || name_len > LONGEST_NAME || extra_len > bytes.len() {
            return wrong("the name of one");
        }
        if extra_len > 0 && flags & EXTRA_COMPATIBLE == 0 {
            return wrong("one has extra data that is not known here");
        }
        let name = bytes.get(FIXED + extra_len..FIXED + extra_len + name_len);
        let Some(name) = name else {
            return wrong("their directory ends within a name");
        };
        let extra = bytes.get(FIXED..FIXED + extra_len).unwrap_or_default().to_vec();
        let (at, entries) = (number(0, 8), number(8, 4) as u32);
        let entry = Self { at, table: Vec::new(), entries, flags, bits, extra, name: name.into() };
        Ok((entry, (FIXED + extra_len + name_len).next_multiple_of(8)))
    }
}

impl<S: Storage> Qcow2<S> {
    /// Reads the directory and the tables, and claims their clusters.
    pub(in crate::qcow2) async fn read_directory(&self) -> Result<(), OpenError> {
        let header = self.header();
        let Some(place) = header.extensions.bitmaps.filter(|_| header.has_bitmaps()) else {
            return Ok(());
        };
        let wrong = |what: String| Err(OpenError::Bitmaps(what));
        let file_size = self.file.size()?;
        let there = file_size.saturating_sub(place.directory_at);
        if place.directory_bytes > MOST_BYTES.min(there) || place.count as usize > MOST {
            return wrong(format!("their directory of {} bytes", place.directory_bytes));
        }
        if !self.geometry.is_start(place.directory_at) {
            return wrong(format!("their directory at {:#x}", place.directory_at));
        }
        let len = place.directory_bytes as usize;
        let bytes = read_bytes(&self.file, place.directory_at, len).await?;
        let (mut rest, mut bitmaps, mut names) = (&bytes[..], Vec::new(), HashSet::new());
        let (mut granules, mut tables) = (0, 0);
        for _ in 0..place.count {
            let (mut entry, used) = Entry::read(rest)?;
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            if !names.insert(name.clone()) {
                return wrong(format!("two are called '{name}'"));
            }
            tables += u64::from(entry.entries);
            granules += header.size.div_ceil(entry.granularity());
            if granules > MOST_GRANULES || tables > MOST_ENTRIES {
                return wrong("they have more bits than fit into memory".to_owned());
            }
            entry.table = self.read_table(&header, &entry, &name, file_size).await?;
            rest = rest.get(used..).unwrap_or_default();
            // Memory for bits comes with the bits.
            let since = Bits::new(0, entry.granularity());
            bitmaps.push(Rc::new(Tracked {
                name,
                enabled: Cell::new(entry.flags & AUTO != 0),
                entry: RefCell::new(entry),
                marks: RefCell::new(None),
                since: RefCell::new(since),
                changed: Cell::new(false),
            }));
        }
        *self.bitmaps.borrow_mut() = bitmaps;
        if !self.options.read_only {
            self.claim_bitmaps()?;
        }
        Ok(())
    }

    async fn read_table(
        &self,
        header: &Header,
        entry: &Entry,
        name: &str,
        file_size: u64,
    ) -> Result<Vec<u64>, OpenError> {
        let geometry = self.geometry;
        let granules = header.size.div_ceil(entry.granularity());
        let expected = granules.div_ceil(8).div_ceil(geometry.cluster());
        let wrong = |what: &str| Err(OpenError::Bitmaps(format!("{what} of '{name}'")));
        if granules > MOST_GRANULES {
            return wrong("the bits");
        }
        // One in use may be of a disk that has another size by now.
        let fits = u64::from(entry.entries) == expected || entry.is_in_use();
        let bytes = u64::from(entry.entries) * 8;
        let end = entry.at.checked_add(bytes).filter(|end| *end < END_OF_OFFSETS);
        let inside = end.is_some() && bytes <= file_size;
        if !fits || !inside || !geometry.is_start(entry.at) || (entry.at == 0) != (bytes == 0) {
            return wrong("the table");
        }
        let table = read_numbers(&self.file, entry.at, entry.entries as usize, file_size).await?;
        let allowed = |number: &u64| {
            *number == ALL_SET || (number & !OFFSET == 0 && geometry.is_start(*number))
        };
        match table.iter().all(allowed) {
            true => Ok(table),
            false => wrong("an entry in the table"),
        }
    }

    /// No write goes where they are.
    pub(in crate::qcow2) fn claim_bitmaps(&self) -> Result<(), OpenError> {
        let bits = self.geometry.cluster_bits;
        let state = &mut *self.state.borrow_mut();
        for bitmap in &*self.bitmaps.borrow() {
            let entry = bitmap.entry.borrow();
            let table = (entry.table.len() as u64 * 8).div_ceil(self.geometry.cluster());
            let data = entry.table.iter().filter(|at| **at > ALL_SET).map(|at| (at >> bits, 1));
            for (first, count) in std::iter::once((entry.at >> bits, table)).chain(data) {
                state.claims.add(first, count, Claim::Bitmaps).map_err(|(cluster, other)| {
                    let at = cluster << bits;
                    OpenError::Overlap(format!(
                        "the bitmap '{}' at {at:#x} lies in {other}",
                        bitmap.name
                    ))
                })?;
            }
        }
        Ok(())
    }

    /// The bits of a bitmap that is not in use.
    pub(super) async fn read_bits(&self, bitmap: &Tracked) -> Result<Bits, OpenError> {
        let (granularity, table) = {
            let entry = bitmap.entry.borrow();
            (entry.granularity(), entry.table.clone())
        };
        let mut bits = Bits::new(self.size(), granularity);
        let cluster = self.geometry.cluster();
        let mut seen = HashSet::new();
        for (index, at) in table.into_iter().enumerate() {
            let first = index as u64 * cluster * 8;
            match at {
                0 => {}
                ALL_SET => {
                    bits.set(first.saturating_mul(granularity), cluster * 8 * granularity);
                }
                at if !seen.insert(at) => {
                    let name = &bitmap.name;
                    return Err(OpenError::Bitmaps(format!("the bits of '{name}' overlap")));
                }
                at => {
                    let bytes = read_bytes(&self.file, at, cluster as usize).await?;
                    bits.load(first, &bytes);
                }
            }
        }
        Ok(bits)
    }
}
