//! Address spaces that the TLB remembers, by their PCID (Intel SDM volume 3, 4.10.1).
//!
//! A change of CR3 makes another space the present one; what the left one was filled with stays until
//! its PCID is flushed, or its place is wanted for another PCID. Without CR4.PCIDE all is PCID 0.
//!
//! Global pages are filled into each space that uses them: a hit looks in one place only. Whoever drops
//! one drops it in all spaces.

/// Spaces remembered at a time: Linux uses six.
pub(crate) const SPACES: usize = 8;

/// Is in the list of entries that belong to the space alone.
const LISTED_LOCAL: u8 = 1;
/// Is in the list of entries that were global.
const LISTED_GLOBAL: u8 = 2;
/// Is a global page's now.
const IS_GLOBAL: u8 = 4;
/// Is a piece of a large page.
const IS_LARGE: u8 = 8;

/// What is known of one space beside its entries. Indices count from the space's first entry.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) pcid: u16,
    /// When it was last made the present one.
    pub(super) used: u64,
    /// Entries filled since they were last dropped, each once in each list.
    local: Vec<u16>,
    global: Vec<u16>,
    marks: Box<[u8]>,
}

impl Space {
    /// One with so many entries, none of them filled.
    pub(super) fn new(pcid: u16, entries: usize) -> Self {
        let marks = vec![0; entries].into_boxed_slice();
        Self { pcid, used: 0, local: Vec::new(), global: Vec::new(), marks }
    }

    /// Notes that an entry is filled.
    pub(super) fn note(&mut self, index: u16, global: bool, large: bool) {
        let mark = &mut self.marks[usize::from(index)];
        *mark &= !(IS_GLOBAL | IS_LARGE);
        *mark |= if global { IS_GLOBAL } else { 0 } | if large { IS_LARGE } else { 0 };
        let (bit, list) = match global {
            true => (LISTED_GLOBAL, &mut self.global),
            false => (LISTED_LOCAL, &mut self.local),
        };
        if *mark & bit == 0 {
            *mark |= bit;
            list.push(index);
        }
    }

    /// Whether an entry, if it is filled, is a global page's.
    pub(super) fn is_global(&self, index: u16) -> bool {
        self.marks[usize::from(index)] & IS_GLOBAL != 0
    }

    /// All entries that may be filled with pieces of large pages.
    pub(super) fn large(&self) -> impl Iterator<Item = u16> {
        self.filled().filter(|index| self.marks[usize::from(*index)] & IS_LARGE != 0)
    }

    /// All entries that may be filled.
    pub(super) fn filled(&self) -> impl Iterator<Item = u16> {
        self.local.iter().chain(&self.global).copied()
    }

    /// Calls `drop` with the entries that may be filled and are not global, which are not from now on.
    pub(super) fn drop_local(&mut self, mut drop: impl FnMut(u16)) {
        for index in self.local.drain(..) {
            let mark = &mut self.marks[usize::from(index)];
            *mark &= !LISTED_LOCAL;
            // It may have become a global page's since it was listed.
            if *mark & IS_GLOBAL == 0 {
                drop(index);
            }
        }
    }

    /// As [`drop_local`](Self::drop_local), with all entries.
    pub(super) fn drop_all(&mut self, mut drop: impl FnMut(u16)) {
        for index in self.local.drain(..).chain(self.global.drain(..)) {
            self.marks[usize::from(index)] = 0;
            drop(index);
        }
    }
}
