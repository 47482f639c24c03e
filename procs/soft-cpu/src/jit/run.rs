//! The run loop's side: into compiled code, and what to make of its coming back.

use std::sync::atomic::Ordering;

use bulkhead_sys::code_memory::CodeMemory;

use super::glue::reason;
use super::jumps::Jump;
use super::layout::{self, slot};
use super::{Jit, Piece, Unlinked};
use crate::block::Block;
use crate::cpu::Cpu;
use crate::fault::Stop;
use crate::op::Next;

/// What became of a block that was to be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// Nothing: the interpreter has to.
    Not,
    /// It, and perhaps many after it.
    To(Next),
    /// As many as the budget allowed.
    Over,
}

/// A block that is never compiled has this heat.
const NEVER: u32 = u32::MAX;

/// Most addresses that a block is compiled for: libraries lie elsewhere in each process.
const MOST_PIECES: usize = 8;

impl Cpu {
    /// From now on blocks that were executed more than `threshold` times are compiled, into this memory.
    pub fn compile_blocks(&mut self, memory: CodeMemory, threshold: u32) {
        self.blocks.jit = Some(Box::new(Jit::new(memory, threshold)));
    }

    /// Blocks compiled so far.
    pub fn compiled_blocks(&self) -> u64 {
        self.blocks.jit.as_ref().map_or(0, |jit| jit.compiled.load(Ordering::Relaxed))
    }

    /// Executes the block at RIP by its compiled code, which is made if it has been executed often enough.
    pub(crate) fn run_compiled(&mut self, next: Next) -> Ran {
        let Some(mut jit) = self.blocks.jit.take() else {
            return Ran::Not;
        };
        let found = self.piece_of(&mut jit, next.block().cast_mut());
        let unlinked = jit.unlinked.take();
        let Some(Piece { entry, .. }) = found.filter(|piece| self.may_run(piece)) else {
            let is_full = jit.is_full();
            self.blocks.jit = Some(jit);
            if is_full {
                self.blocks.forget_all();
                return Ran::To(Next::LOOKUP);
            }
            return Ran::Not;
        };
        let (rip, code) = (self.rip(), jit.code.address(entry));
        // SAFETY: the run loop's block is live.
        let head = unsafe { *next.block() };
        if let Some(epoch) = self.epoch_here(head.is_whole()) {
            if let Some(exit) = unlinked
                && exit.target == rip
                && let Some(site) = jit.sites.get(exit.site as usize).copied()
                && site.may_lead_to(head.page())
            {
                jit.code.link(site, entry, epoch);
            }
            jit.jumps.remember(self.jumps_key(), Jump { rip, epoch, code: code as u64 });
        }
        let enter = jit.code.address(jit.glue.enter);
        self.blocks.jit = Some(jit);
        self.run_code(enter, code)
    }

    /// Where the block's code for the present address begins.
    fn piece_of(&mut self, jit: &mut Jit, block: *mut Block) -> Option<Piece> {
        // SAFETY: the run loop's block is live; only this thread touches it.
        let head = unsafe { &mut *block };
        if let Some(piece) = jit.piece_at(head.native, self.rip()) {
            return Some(piece);
        }
        // A block that begins at a breakpoint has an operation that looks; compiled code would not.
        if head.heat == NEVER || self.debugger.has_breakpoints() {
            return None;
        }
        head.heat += 1;
        if head.heat <= jit.threshold || jit.is_full() {
            return None;
        }
        if !self.mode.is_long() {
            head.heat = NEVER;
            return None;
        }
        if jit.pieces_from(head.native) >= MOST_PIECES {
            jit.drop_pieces(std::mem::take(&mut head.native));
        }
        match self.compile(jit, block) {
            Some(number) => {
                // SAFETY: as above; compiling has not changed it.
                let head = unsafe { &mut *block };
                head.native = number;
                head.heat = 0;
                jit.piece(number)
            }
            None => {
                // SAFETY: as above.
                unsafe { (*block).heat = NEVER };
                None
            }
        }
    }

    fn run_code(&mut self, enter: *const u8, code: *const u8) -> Ran {
        self.look_around();
        // SAFETY: the code memory begins with the glue, whose `enter` has this signature.
        let enter: extern "sysv64" fn(*mut u8, *const u8) -> u32 =
            unsafe { std::mem::transmute(enter) };
        let state = layout::state_of(std::ptr::from_mut(self));
        let reason = enter(state, code);
        match reason {
            reason::OVER => Ran::Over,
            reason::GONE | reason::UNMASKED => Ran::To(Next::LOOKUP),
            reason::STOPPED => {
                Ran::To(self.blocks.jit.as_ref().map_or(Next::LOOKUP, |jit| jit.next))
            }
            exit => {
                let (site, target) = (exit - reason::FIRST_EXIT, self.rip());
                if let Some(jit) = &mut self.blocks.jit {
                    jit.unlinked = Some(Unlinked { site, target });
                }
                Ran::To(self.go())
            }
        }
    }

    /// Tells compiled code what it needs to know of the rest of the processor: before it begins, and after
    /// each operation of the interpreter.
    pub(super) fn look_around(&mut self) {
        self.regs.set(slot::TLB, self.tlb.bank_address());
        self.regs.set(slot::EPOCH, self.blocks.far_epoch);
        self.regs.set(slot::GLOBAL_EPOCH, self.blocks.global_epoch);
        let key = self.jumps_key();
        if let Some(jit) = &mut self.blocks.jit {
            let table = jit.jumps.of(key).as_ptr();
            self.regs.set(slot::JUMPS, table as u64);
        }
    }

    /// The compiled code for RIP, if compiled code may go on there by itself: the run loop has nothing to look at.
    pub(super) fn compiled_here(&mut self) -> Option<u64> {
        if self.stop != Stop::Lookup || self.has_signals() || self.has_to_look() {
            return None;
        }
        let (rip, key) = (self.rip(), self.jumps_key());
        let jump = self.blocks.jit.as_mut()?.jumps.at(key, rip);
        (jump.rip == rip && self.blocks.is_fresh(jump.epoch)).then_some(jump.code)
    }
}
