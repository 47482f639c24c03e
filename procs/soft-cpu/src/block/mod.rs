//! Decoded code: blocks, where they are kept, and how they are found.
//!
//! ```text
//!  RIP ──► TLB (execute tag) ──► host address ──► `recent` (direct-mapped) ──► block
//!                                                     └ miss ──► `all` ──► or decode
//!  direct jumps know their successor (link); indirect ones look into `jumps` by RIP first
//! ```
//!
//! A block is keyed by the *host* address of its first byte, which stands for the guest-physical one
//! (RAM is mapped once), and by the mode. It therefore survives changes of address space. It ends at the
//! page's end; an instruction that crosses into the next page is a block of its own, which remembers
//! where its second half was.
//!
//! Law: operations are freed only by [`Blocks::forget_all`], which the run loop calls between blocks.

mod arena;
mod decode;
mod epoch;
mod link;

use std::collections::HashMap;

use epoch::Epochs;

pub(crate) use arena::{Arena, Block, Slot};
pub(crate) use decode::{LONGEST, empty_op, unavailable};
pub(crate) use link::Link;

use crate::cpu::Cpu;
use crate::fault::{Exception, Raised};
use crate::jit::Jit;
use crate::memory::Ram;
use crate::memory::ram::PAGE;
use crate::op::Next;

/// Slots of the direct-mapped table.
const RECENT: usize = 1 << 17;

/// What a block is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    host: u64,
    mode: u32,
}

impl Key {
    fn slot(self) -> usize {
        (self.host ^ self.host >> 17 ^ u64::from(self.mode) << 5) as usize % RECENT
    }
}

/// Where an indirect jump went: as good as a [`Link`], but found by RIP.
#[derive(Debug, Clone, Copy)]
struct Jump {
    rip: u64,
    epoch: u64,
    next: Next,
    mode: u32,
}

/// How many of them are remembered.
const JUMPS: usize = 1 << 13;

/// All blocks of one vCPU.
#[derive(Debug)]
pub struct Blocks {
    arena: Arena,
    jumps: Box<[Jump]>,
    recent: Box<[*const Block]>,
    all: HashMap<Key, *const Block>,
    by_page: HashMap<u64, Vec<*const Block>>,
    /// Compiled code, if there is any.
    pub(crate) jit: Option<Box<Jit>>,
    /// Links within a page that carry another number are stale: code was dropped.
    pub(crate) code_epoch: u64,
    /// Links between pages that carry neither this number, the present address space's, nor that of
    /// links to global pages are stale: code was dropped, or a translation.
    pub(crate) far_epoch: u64,
    pub(crate) global_epoch: u64,
    epochs: Epochs,
    /// How many blocks were decoded.
    pub(crate) decoded: u64,
    /// How many instructions were decoded that no family takes.
    pub(crate) unknown: u64,
}

// SAFETY: the pointers lead into the arena that this value owns.
unsafe impl Send for Blocks {}

impl Blocks {
    /// None yet.
    pub fn new() -> Self {
        let mut blocks = Self {
            arena: Arena::default(),
            jumps: vec![Jump { rip: 0, epoch: 0, next: Next::LOOKUP, mode: 0 }; JUMPS].into(),
            recent: vec![std::ptr::null(); RECENT].into_boxed_slice(),
            all: HashMap::new(),
            by_page: HashMap::new(),
            jit: None,
            code_epoch: 1,
            far_epoch: 0,
            global_epoch: 0,
            epochs: Epochs::default(),
            decoded: 0,
            unknown: 0,
        };
        blocks.drop_all_links();
        blocks
    }

    /// Forgets all blocks of the page at `physical`.
    pub fn invalidate(&mut self, ram: &Ram, physical: u64) {
        let Some(page) = ram.page_number(physical) else {
            return;
        };
        for block in self.by_page.remove(&page).unwrap_or_default() {
            // SAFETY: listed blocks are in the arena, which was not emptied since.
            let block = unsafe { &*block };
            if let Some(jit) = &mut self.jit {
                jit.drop_pieces(block.native);
            }
            let key = block.key();
            self.all.remove(&key);
            self.recent[key.slot()] = std::ptr::null();
        }
        self.code_epoch += 1;
        self.drop_all_links();
    }

    /// Forgets all blocks, while one of them may be executing: their memory is kept.
    pub(crate) fn invalidate_all(&mut self) {
        self.recent.fill(std::ptr::null());
        self.all.clear();
        self.by_page.clear();
        if let Some(jit) = &mut self.jit {
            jit.drop_all_pieces();
        }
        self.code_epoch += 1;
        self.drop_all_links();
    }

    /// Forgets all blocks. Only between blocks.
    pub(crate) fn forget_all(&mut self) {
        self.recent.fill(std::ptr::null());
        self.all.clear();
        self.by_page.clear();
        self.arena.empty();
        if let Some(jit) = &mut self.jit {
            jit.forget_all();
        }
        self.code_epoch += 1;
        self.drop_all_links();
    }

    /// Whether a link between pages that carries this number holds.
    #[inline(always)]
    pub(crate) fn is_fresh(&self, epoch: u64) -> bool {
        epoch == self.far_epoch || epoch == self.global_epoch
    }

    fn jump_slot(rip: u64) -> usize {
        (rip ^ rip >> 13) as usize % JUMPS
    }

    #[inline(always)]
    fn jump(&self, rip: u64) -> &Jump {
        // SAFETY: a slot number is less than the table's length.
        unsafe { self.jumps.get_unchecked(Self::jump_slot(rip)) }
    }

    fn jump_mut(&mut self, rip: u64) -> &mut Jump {
        &mut self.jumps[Self::jump_slot(rip)]
    }

    #[inline(always)]
    fn find_recent(&self, key: Key) -> Option<*const Block> {
        // SAFETY: a slot number is less than the table's length.
        let block = unsafe { *self.recent.get_unchecked(key.slot()) };
        if block.is_null() {
            return None;
        }
        // SAFETY: the table holds live blocks.
        (unsafe { (*block).key() } == key).then_some(block)
    }

    fn find(&mut self, key: Key) -> Option<*const Block> {
        self.find_recent(key).or_else(|| {
            let block = *self.all.get(&key)?;
            self.recent[key.slot()] = block;
            Some(block)
        })
    }
}

impl Cpu {
    /// The block at RIP, if it is at hand: an indirect jump's way on.
    #[inline(always)]
    pub fn go(&mut self) -> Next {
        let rip = self.rip();
        let jump = self.blocks.jump(rip);
        if (jump.rip, jump.mode) == (rip, self.mode.0) && self.blocks.is_fresh(jump.epoch) {
            return jump.next;
        }
        self.go_by_address(rip)
    }

    #[inline(never)]
    fn go_by_address(&mut self, rip: u64) -> Next {
        let linear = self.code_linear();
        let Some(host) = self.tlb.code(linear, self.mode.is_user()) else {
            return Next::LOOKUP;
        };
        let key = Key { host, mode: self.mode.0 };
        // SAFETY: the table holds live blocks.
        let whole = self.blocks.find_recent(key).filter(|block| unsafe { (**block).is_whole() });
        let Some(block) = whole else {
            return Next::LOOKUP;
        };
        let next = Next::to(block);
        let epoch = self.blocks.epoch_for(linear, self.tlb.is_global_code(linear));
        *self.blocks.jump_mut(rip) = Jump { rip, epoch, next, mode: self.mode.0 };
        next
    }

    /// The number for a link to RIP, whose block was just found and lies within one page or not. `None`: its
    /// translation is not at hand.
    pub(crate) fn epoch_here(&mut self, is_whole: bool) -> Option<u64> {
        let linear = self.code_linear();
        if !is_whole {
            return self.epoch_across(linear);
        }
        if self.tlb.code(linear, self.mode.is_user()).is_some() {
            let is_global = self.tlb.is_global_code(linear);
            return Some(self.blocks.epoch_for(linear, is_global));
        }
        let jump = self.blocks.jump(self.rip());
        let is_it = (jump.rip, jump.mode) == (self.rip(), self.mode.0);
        (is_it && self.blocks.is_fresh(jump.epoch)).then_some(jump.epoch)
    }

    /// The number for a link to an instruction that goes on in the next page: it holds as long as both do.
    fn epoch_across(&mut self, linear: u64) -> Option<u64> {
        let pages = [linear, linear.wrapping_add(PAGE) & !(PAGE - 1)];
        let user = self.mode.is_user();
        if pages.iter().any(|page| self.tlb.code(*page, user).is_none()) {
            return None;
        }
        let [first, second] = pages.map(|page| self.tlb.is_global_code(page));
        // Of two kinds, no number tells of both.
        (first == second).then(|| {
            self.blocks.epoch_for(pages[1], second);
            self.blocks.epoch_for(pages[0], first)
        })
    }

    /// Linear address of the instruction at RIP.
    #[inline(always)]
    pub(crate) fn code_linear(&self) -> u64 {
        // Outside 64-bit mode, RIP is 32 bits and so is the sum.
        let base: u64 = self.regs.get(crate::state::Reg::base_of(1));
        let linear = base.wrapping_add(self.rip());
        if self.mode.is_long() { linear } else { linear & 0xffff_ffff }
    }

    /// The block at RIP, decoded if need be; `alone`: one instruction only.
    pub(crate) fn block_at_rip(&mut self, alone: bool) -> Result<Next, Raised> {
        let linear = self.code_linear();
        self.check_code_limit()?;
        let host = self.fetch_page(linear)?;
        let alone = if alone { crate::cpu::Mode::ALONE } else { 0 };
        let key = Key { host: host as u64, mode: self.mode.0 | alone };
        if let Some(block) = self.blocks.find(key) {
            // SAFETY: the tables hold live blocks.
            let second = unsafe { (*block).second };
            if second == 0 {
                return Ok(Next::to(block));
            }
            let following = linear.wrapping_add(PAGE) & !(PAGE - 1);
            if self.fetch_page(following)? as u64 == second {
                return Ok(Next::to(block));
            }
        }
        if self.blocks.arena.is_full() {
            self.blocks.forget_all();
        }
        let block = self.decode(key, linear)?;
        Ok(Next::to(block))
    }

    fn check_code_limit(&mut self) -> Result<(), Raised> {
        let limit = self.segments[1].limit;
        if !self.mode.is_long() && self.rip() > u64::from(limit) {
            return Err(self.fault(Exception::gp(0)));
        }
        Ok(())
    }
}
