//! The translation look-aside buffer of one vCPU.
//!
//! Direct-mapped, one bank for each kind of access ([`Bank`]): what a page permits is decided when an
//! entry is filled, so that a hit is one comparison. The comparison is of the page of the access's
//! *last* byte with the tag found by its first: an access that crosses a page never hits.
//!
//! A page that must not be hit (no RAM, code for writes, not yet dirty) has [`NEVER`] as its tag.
//! Entries of non-global pages are listed as they are filled, so that a change of address space costs
//! no more than the fills did.

use super::ram::PAGE;

/// Entries of a bank.
pub(crate) const ENTRIES: usize = 4096;

/// A tag that no page has: not a multiple of the page size.
pub const NEVER: u64 = 1;

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

const BANKS: usize = 4;

/// One translation.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Entry {
    /// The linear page, if it may be read.
    pub read: u64,
    /// The linear page, if it may be written.
    pub write: u64,
    /// The linear page, if it may be executed.
    pub execute: u64,
    /// What makes a linear address a host address.
    pub addend: u64,
}

const EMPTY: Entry = Entry { read: NEVER, write: NEVER, execute: NEVER, addend: 0 };

/// All banks.
#[derive(Debug)]
pub struct Tlb {
    entries: Box<[Entry]>,
    /// Entry that `index` 0 of the bank in use has.
    offset: usize,
    /// Non-global entries that were filled since they were last flushed.
    local: Vec<u16>,
    /// As above, the global ones.
    global: Vec<u16>,
    /// How many fills there were.
    pub fills: u64,
}

impl Default for Tlb {
    fn default() -> Self {
        Self {
            entries: vec![EMPTY; ENTRIES * BANKS].into_boxed_slice(),
            offset: 0,
            local: Vec::new(),
            global: Vec::new(),
            fills: 0,
        }
    }
}

impl Tlb {
    fn index(linear: u64) -> usize {
        (linear / PAGE) as usize % ENTRIES
    }

    /// From now on `bank` is used.
    pub fn select(&mut self, bank: Bank) {
        self.offset = bank as usize * ENTRIES;
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

    /// Puts a translation where it belongs, joined with what the same page was filled with before.
    pub fn fill(&mut self, bank: Bank, linear: u64, mut entry: Entry, global: bool) {
        if bank == Bank::Strict {
            return;
        }
        let index = bank as usize * ENTRIES + Self::index(linear);
        let (old, page) = (self.entries[index], linear & !(PAGE - 1));
        if old.addend == entry.addend {
            let is_old = |tag| tag == page;
            entry.read = if is_old(old.read) { page } else { entry.read };
            entry.execute = if is_old(old.execute) { page } else { entry.execute };
            // A fetch says nothing of writes; a load or store says all there is to say.
            if entry.execute == page && entry.write == NEVER && entry.read == NEVER {
                entry.write = old.write;
            }
        }
        let list = if global { &mut self.global } else { &mut self.local };
        if list.len() >= ENTRIES * 4 {
            return self.flush_listed(global, index, entry);
        }
        list.push(index as u16);
        self.entries[index] = entry;
        self.fills += 1;
    }

    /// The list is full (a bank was filled over and over): start it anew.
    #[cold]
    fn flush_listed(&mut self, global: bool, index: usize, entry: Entry) {
        let list = if global { &mut self.global } else { &mut self.local };
        for index in list.drain(..) {
            self.entries[usize::from(index)] = EMPTY;
        }
        list.push(index as u16);
        self.entries[index] = entry;
        self.fills += 1;
    }

    /// Forgets all translations but the global ones.
    pub fn flush_local(&mut self) {
        for index in self.local.drain(..) {
            self.entries[usize::from(index)] = EMPTY;
        }
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        self.flush_local();
        for index in self.global.drain(..) {
            self.entries[usize::from(index)] = EMPTY;
        }
    }

    /// Forgets one page in all banks.
    pub fn flush_page(&mut self, linear: u64) {
        for bank in 0..BANKS {
            self.entries[bank * ENTRIES + Self::index(linear)] = EMPTY;
        }
    }

    /// Takes the write tag from every translation to the host page `host`.
    pub fn forbid_writes(&mut self, host: u64) {
        for index in self.local.iter().chain(&self.global) {
            let entry = &mut self.entries[usize::from(*index)];
            if entry.write != NEVER && entry.write.wrapping_add(entry.addend) == host {
                entry.write = NEVER;
            }
        }
    }
}
