//! Where indirect jumps went: what compiled code looks into, by RIP.
//!
//! A table for each mode of the processor, because the same address may mean other code in another one.

/// One answer. It counts while the epoch is the present one.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Jump {
    pub(super) rip: u64,
    pub(super) epoch: u64,
    /// The host address.
    pub(super) code: u64,
}

/// Entries of a table.
const ENTRIES: usize = 1 << 14;

/// Of an address, what chooses the entry.
pub(super) const MASK: u64 = ENTRIES as u64 - 1;

/// Most tables: more modes than a guest lives in.
const MOST: usize = 8;

/// No epoch is 0.
const EMPTY: Jump = Jump { rip: 0, epoch: 0, code: 0 };

/// All tables.
#[derive(Debug, Default)]
pub(super) struct Jumps {
    tables: Vec<(u32, Box<[Jump]>)>,
    /// The one that was asked for last.
    last: usize,
}

impl Jumps {
    /// The table of a mode.
    #[inline]
    pub(super) fn of(&mut self, mode: u32) -> &mut [Jump] {
        if self.tables.get(self.last).is_none_or(|(of, _)| *of != mode) {
            self.find(mode);
        }
        &mut self.tables[self.last].1
    }

    #[cold]
    fn find(&mut self, mode: u32) {
        self.last = match self.tables.iter().position(|(of, _)| *of == mode) {
            Some(place) => place,
            None => {
                if self.tables.len() >= MOST {
                    self.tables.clear();
                }
                self.tables.push((mode, vec![EMPTY; ENTRIES].into_boxed_slice()));
                self.tables.len() - 1
            }
        };
    }

    /// The only entry that an address can have.
    pub(super) fn at(&mut self, mode: u32, rip: u64) -> Jump {
        self.of(mode)[(rip & MASK) as usize]
    }

    /// Remembers where an address is compiled.
    pub(super) fn remember(&mut self, mode: u32, jump: Jump) {
        self.of(mode)[(jump.rip & MASK) as usize] = jump;
    }
}
