//! Where indirect jumps went: what compiled code looks into, by RIP.
//!
//! A table for each mode of the processor, because the same address may mean other code in another one, and for users in
//! each address space, because they all have code at the same addresses. A [`Cpu::jumps_key`] names it.

use crate::cpu::Cpu;

impl Cpu {
    /// The table in use: the mode, and of users the address space.
    pub(super) fn jumps_key(&self) -> u32 {
        let space = if self.mode.is_user() { self.blocks.space() as u32 } else { 0 };
        self.mode.0 | space << 16
    }
}

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

/// Most tables: the spaces that the TLB remembers, and more modes than a guest's kernel lives in.
const MOST: usize = 16;

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
    /// The table of this key.
    #[inline]
    pub(super) fn of(&mut self, key: u32) -> &mut [Jump] {
        if self.tables.get(self.last).is_none_or(|(of, _)| *of != key) {
            self.find(key);
        }
        &mut self.tables[self.last].1
    }

    #[cold]
    fn find(&mut self, key: u32) {
        self.last = match self.tables.iter().position(|(of, _)| *of == key) {
            Some(place) => place,
            None => {
                if self.tables.len() >= MOST {
                    self.tables.clear();
                }
                self.tables.push((key, vec![EMPTY; ENTRIES].into_boxed_slice()));
                self.tables.len() - 1
            }
        };
    }

    /// The only entry that an address can have.
    pub(super) fn at(&mut self, key: u32, rip: u64) -> Jump {
        self.of(key)[(rip & MASK) as usize]
    }

    /// Remembers where an address is compiled.
    pub(super) fn remember(&mut self, key: u32, jump: Jump) {
        self.of(key)[(jump.rip & MASK) as usize] = jump;
    }
}
