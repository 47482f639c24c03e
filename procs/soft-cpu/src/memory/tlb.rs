//! The translation look-aside buffer of one vCPU.
//!
//! Direct-mapped, one bank for each kind of access ([`Bank`]) of each address space ([`super::space`]), and one for
//! code, so that a page of code and one of data never want the same place:
//! what a page permits is decided when an entry is filled, so that a hit is one comparison. The
//! comparison is of the page of the access's *last* byte with the tag found by its first: an access that
//! crosses a page never hits.
//!
//! A page that must not be hit (no RAM, code for writes, not yet dirty) has [`NEVER`] as its tag.
//! Entries are listed as they are filled, so that dropping them costs no more than the fills did. A
//! change of address space moves the place where the banks are found, and drops nothing by itself.

use super::ram::PAGE;
use super::space::{SPACES, Space};
use super::walk::Translation;

/// Entries of a bank.
pub(crate) const ENTRIES: usize = 4096;

/// A tag that no page has: not a multiple of the page size. Nor has it any of the lowest four bits, which compiled code
/// leaves an address that has to be aligned.
pub const NEVER: u64 = 1 << 11;

/// Which entries an access may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Bank {
    /// Privilege level 3.
    User,
    /// Levels 0–2, user pages as SMAP says.
    Supervisor,
    /// Levels 0–2 while EFLAGS.AC lifts SMAP.
    SupervisorAc,
    /// Always empty: alignment checks or data breakpoints are on, and every access takes the slow way.
    Strict,
}

/// Number of the bank of code, behind those of data.
const CODE: usize = 3;

/// Banks that each space has of its own: all but the empty one.
const BANKS: usize = 4;

/// In the tag of a page of code: for privilege level 3.
const FOR_USER: u64 = 2;

/// Entries of a space.
const OF_SPACE: usize = BANKS * ENTRIES;

/// One translation.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Entry {
    /// The linear page, if it may be read.
    pub read: u64,
    /// The linear page, if it may be written.
    pub write: u64,
    /// In the bank of code, the linear page and for which level.
    pub execute: u64,
    /// What makes a linear address a host address.
    pub addend: u64,
}

const EMPTY: Entry = Entry { read: NEVER, write: NEVER, execute: NEVER, addend: 0 };

/// All banks.
#[derive(Debug)]
pub struct Tlb {
    /// The empty bank, then the banks of one space after the other.
    entries: Vec<Entry>,
    /// Entry that `index` 0 of the bank in use has.
    offset: usize,
    /// The same of the bank of code.
    code: usize,
    spaces: Vec<Space>,
    /// Number of the present one.
    space: usize,
    switches: u64,
    /// One bit for each page of RAM: a write tag to it was filled since this was last asked.
    written: Vec<u64>,
    /// Regions of 2 MiB and of 1 GiB, by the low bits of their numbers, that had pieces of large pages: in the lower
    /// half of all addresses, and in the upper.
    large: [[[u64; 16]; 2]; 2],
    /// How many fills there were.
    pub fills: u64,
    /// How many times all of an address space was forgotten.
    pub flushes: u64,
}

/// Bits of an address within these regions.
const REGION_BITS: [u32; 2] = [21, 30];

/// Users' addresses are in the lower half, kernels' in the upper, whose large pages are many.
fn half(linear: u64) -> usize {
    (linear >> 63) as usize
}

/// Word and bit of a region.
fn region(linear: u64, bits: u32) -> (usize, u64) {
    let number = linear >> bits & 1023;
    ((number / 64) as usize, 1 << (number % 64))
}

impl Default for Tlb {
    fn default() -> Self {
        Self {
            entries: vec![EMPTY; ENTRIES + OF_SPACE],
            offset: 0,
            code: 0,
            spaces: vec![Space::new(0, OF_SPACE)],
            space: 0,
            switches: 0,
            written: Vec::new(),
            large: [[[0; 16]; 2]; 2],
            fills: 0,
            flushes: 0,
        }
    }
}

/// Where the entries of space `number` begin.
fn first_of(number: usize) -> usize {
    ENTRIES + number * OF_SPACE
}

impl Tlb {
    /// Where the number of the first entry of the bank in use lies.
    pub(crate) const BANK: usize = std::mem::offset_of!(Self, offset);

    fn index(linear: u64) -> usize {
        (linear / PAGE) as usize % ENTRIES
    }

    /// From now on `bank` of the present space is used.
    pub fn select(&mut self, bank: Bank) {
        let first = first_of(self.space);
        (self.offset, self.code) = match bank {
            Bank::Strict => (0, 0),
            bank => (first + bank as usize * ENTRIES, first + CODE * ENTRIES),
        };
    }

    /// Makes the space of `pcid` the present one; its number, and whether nothing is known of it yet. A
    /// bank has to be selected anew.
    pub(crate) fn enter(&mut self, pcid: u16) -> (usize, bool) {
        self.switches += 1;
        let known = self.number_of(pcid);
        let number = known.unwrap_or_else(|| self.assign(pcid));
        self.spaces[number].used = self.switches;
        self.space = number;
        (number, known.is_none())
    }

    fn assign(&mut self, pcid: u16) -> usize {
        if self.spaces.len() < SPACES {
            self.spaces.push(Space::new(pcid, OF_SPACE));
            self.entries.resize(first_of(self.spaces.len()), EMPTY);
            return self.spaces.len() - 1;
        }
        let numbered = self.spaces.iter().enumerate();
        let number = numbered.min_by_key(|(_, space)| space.used).map_or(0, |(number, _)| number);
        self.flush_space(number);
        self.spaces[number].pcid = pcid;
        number
    }

    /// The number of the space of `pcid`, if it has one.
    pub(crate) fn number_of(&self, pcid: u16) -> Option<usize> {
        self.spaces.iter().position(|space| space.pcid == pcid)
    }

    /// The entry that `linear` could be found in, in the bank in use.
    #[inline(always)]
    pub fn entry(&self, linear: u64) -> &Entry {
        let index = self.offset + Self::index(linear);
        // SAFETY: `offset` is a bank's first entry and the index is less than a bank's length.
        unsafe { self.entries.get_unchecked(index) }
    }

    /// The address of the bank in use.
    pub(crate) fn bank_address(&self) -> u64 {
        self.entries.as_ptr().wrapping_add(self.offset) as u64
    }

    /// The host address of code at `linear`, if its page is known to be executable at that level.
    #[inline(always)]
    pub(crate) fn code(&self, linear: u64, user: bool) -> Option<u64> {
        // SAFETY: `code` is a bank's first entry and the index is less than a bank's length.
        let entry = unsafe { self.entries.get_unchecked(self.code + Self::index(linear)) };
        (entry.execute == Self::code_tag(linear, user)).then(|| entry.addend.wrapping_add(linear))
    }

    fn code_tag(linear: u64, user: bool) -> u64 {
        linear & !(PAGE - 1) | if user { FOR_USER } else { 0 }
    }

    /// Whether the page of code that `linear` is found in is a global one.
    pub(crate) fn is_global_code(&self, linear: u64) -> bool {
        let index = self.code + Self::index(linear);
        index
            .checked_sub(first_of(self.space))
            .is_some_and(|index| self.spaces[self.space].is_global(index as u16))
    }

    /// Puts a translation where it belongs, joined with what the same page was filled with before.
    pub fn fill(&mut self, bank: Bank, linear: u64, mut entry: Entry, page: &Translation) {
        if bank == Bank::Strict {
            return;
        }
        let index = bank as usize * ENTRIES + Self::index(linear);
        let place = &mut self.entries[first_of(self.space) + index];
        let (old, tag) = (*place, linear & !(PAGE - 1));
        if old.addend == entry.addend && old.read == tag {
            entry.read = tag;
        }
        *place = entry;
        self.note(index, linear, page);
    }

    /// As [`fill`](Self::fill), for code at that level.
    pub(crate) fn fill_code(&mut self, linear: u64, user: bool, addend: u64, page: &Translation) {
        if self.code == 0 {
            return;
        }
        let index = CODE * ENTRIES + Self::index(linear);
        let execute = Self::code_tag(linear, user);
        self.entries[first_of(self.space) + index] = Entry { execute, addend, ..EMPTY };
        self.note(index, linear, page);
    }

    fn note(&mut self, index: usize, linear: u64, page: &Translation) {
        let is_large = page.page_bits > 12;
        self.spaces[self.space].note(index as u16, page.global, is_large);
        if is_large {
            // Pages of 4 MiB are noted by the larger region.
            let size = usize::from(page.page_bits > REGION_BITS[0]);
            let (word, bit) = region(linear, REGION_BITS[size]);
            self.large[half(linear)][size][word] |= bit;
        }
        self.fills += 1;
    }

    /// Forgets all translations of a space but the global ones.
    pub(crate) fn flush_local(&mut self, number: usize) {
        self.flushes += 1;
        let (entries, first) = (&mut self.entries, first_of(number));
        if let Some(space) = self.spaces.get_mut(number) {
            space.drop_local(|index| entries[first + usize::from(index)] = EMPTY);
        }
    }

    /// Forgets all translations of all spaces but the global ones.
    pub(crate) fn flush_locals(&mut self) {
        (0..self.spaces.len()).for_each(|number| self.flush_local(number));
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        self.large = [[[0; 16]; 2]; 2];
        (0..self.spaces.len()).for_each(|number| self.flush_space(number));
    }

    fn flush_space(&mut self, number: usize) {
        self.flushes += 1;
        let (entries, first) = (&mut self.entries, first_of(number));
        if let Some(space) = self.spaces.get_mut(number) {
            space.drop_all(|index| entries[first + usize::from(index)] = EMPTY);
        }
    }

    /// Forgets one page in all banks of all spaces: it may be a global one. `true`: it may have been a
    /// large one, and so were its other pieces.
    pub fn flush_page(&mut self, linear: u64) -> bool {
        for bank in self.entries.chunks_exact_mut(ENTRIES) {
            bank[Self::index(linear)] = EMPTY;
        }
        let large = &self.large[half(linear)];
        let had_large = REGION_BITS.iter().zip(large).any(|(bits, regions)| {
            let (word, bit) = region(linear, *bits);
            regions[word] & bit != 0
        });
        if had_large {
            self.flush_large(linear >> REGION_BITS[1]);
        }
        had_large
    }

    /// Forgets the pieces of large pages in region `gigabyte` of 1 GiB.
    #[cold]
    fn flush_large(&mut self, gigabyte: u64) {
        for (number, space) in self.spaces.iter().enumerate() {
            for index in space.large() {
                let entry = &mut self.entries[first_of(number) + usize::from(index)];
                let tags = [entry.read, entry.write, entry.execute];
                if tags.iter().any(|tag| *tag != NEVER && tag >> REGION_BITS[1] == gigabyte) {
                    *entry = EMPTY;
                }
            }
        }
    }

    /// Takes the tags of loads and stores from every translation to the host page `host`.
    pub(super) fn forbid_access(&mut self, host: u64) {
        for (number, space) in self.spaces.iter().enumerate() {
            for index in space.filled() {
                let entry = &mut self.entries[first_of(number) + usize::from(index)];
                let leads = |tag: u64| tag != NEVER && tag.wrapping_add(entry.addend) == host;
                if leads(entry.read) || leads(entry.write) {
                    (entry.read, entry.write) = (NEVER, NEVER);
                }
            }
        }
    }

    /// Notes that page `number` of RAM may be written by a translation from now on.
    pub(super) fn note_writable(&mut self, number: u64) {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.written.len() {
            self.written.resize(word + 1, 0);
        }
        self.written[word] |= bit;
    }

    /// Takes all write tags.
    pub(super) fn forbid_all_writes(&mut self) {
        self.written.fill(0);
        for (number, space) in self.spaces.iter().enumerate() {
            for index in space.filled() {
                self.entries[first_of(number) + usize::from(index)].write = NEVER;
            }
        }
    }

    /// Takes the write tag from every translation to the host page `host`, which is page `number` of RAM.
    pub(super) fn forbid_writes(&mut self, host: u64, number: u64) {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        match self.written.get_mut(word) {
            Some(word) if *word & bit != 0 => *word &= !bit,
            _ => return,
        }
        for (number, space) in self.spaces.iter().enumerate() {
            for index in space.filled() {
                let entry = &mut self.entries[first_of(number) + usize::from(index)];
                if entry.write != NEVER && entry.write.wrapping_add(entry.addend) == host {
                    entry.write = NEVER;
                }
            }
        }
    }
}
