//! Compiled code for blocks that are executed often: the interpreter's faster twin, for 64-bit code.
//!
//! ```text
//!  block, executed often ─► plan ─► compile (copy, access, group, exit) ─► code memory
//!  run loop ─► enter ─► block ─► block ─► … ─► leave: budget used up, unknown successor, fault
//!                         └ unknown or refused ─► step: the interpreter's handler for one instruction
//! ```
//!
//! Guest and host are the same instruction set: an instruction is copied with its registers renamed and
//! a look-up in the TLB in the place of its memory operand. What is not simple is left to the
//! interpreter, which stays the definition of every instruction.
//!
//! Law: when compiled code is left, by whatever way, the processor's state is what the interpreter would
//! have made it: registers, flags, RIP. Compiled code is dropped where decoded code is, by the same calls.
//! The memory that it lies in is mapped twice, for writing and for execution; nothing here maps or
//! protects.
//!
//! Absent on purpose: code outside 64-bit mode, instructions that cross pages, single-step, breakpoints:
//! the interpreter's. Optimization beyond one block.

mod access;
mod checked;
mod code;
mod compile;
mod copy;
mod divide;
mod emit;
mod ends;
mod exit;
mod flags;
mod glue;
mod group;
mod jumps;
mod layout;
mod plan;
mod residence;
mod run;
mod stack;
mod step;
mod system;
mod translate;
mod vector;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bulkhead_sys::code_memory::CodeMemory;

use crate::block::Arena;
use crate::op::Next;
use code::{Code, Site};
use emit::Emitter;
use glue::Glue;
use jumps::Jumps;

pub(crate) use run::Ran;

/// Executions after which a block is compiled.
pub(crate) const THRESHOLD: u32 = 64;

/// A compiled block.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The linear address that it was compiled for.
    rip: u64,
    entry: u32,
    gone: u32,
    /// The same block's piece for another address.
    older: u32,
    /// It wants the guest's vector registers in the host's.
    has_vectors: bool,
}

/// An exit that has no successor yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unlinked {
    site: u32,
    /// Where it leads.
    target: u64,
}

/// All compiled code of one vCPU.
#[derive(Debug)]
pub(crate) struct Jit {
    code: Code,
    glue: Glue,
    kept: u32,
    emitter: Emitter,
    /// For what is seldom executed.
    cold: Emitter,
    /// Operations of the interpreter that compiled code calls.
    ops: Arena,
    /// Numbered from 1.
    pieces: Vec<Piece>,
    /// How many of them, from the first, lead out by now, all of them.
    severed: usize,
    sites: Vec<Site>,
    jumps: Jumps,
    /// Executions after which a block is compiled.
    threshold: u32,
    /// The exit that was just taken and leads nowhere yet.
    pub(crate) unlinked: Option<Unlinked>,
    /// Where an operation that left its block wants to go on.
    pub(crate) next: Next,
    /// Blocks compiled so far.
    pub(crate) compiled: Arc<AtomicU64>,
}

impl Jit {
    /// Nothing compiled yet.
    pub(crate) fn new(memory: CodeMemory, threshold: u32) -> Self {
        let mut code = Code::new(memory);
        let mut emitter = Emitter::default();
        emitter.begin(0);
        let glue = Glue::emit(&mut emitter);
        code.add(&emitter.bytes, &[]);
        let kept = code.next();
        Self {
            code,
            glue,
            kept,
            emitter,
            cold: Emitter::default(),
            ops: Arena::default(),
            pieces: Vec::new(),
            severed: 0,
            sites: Vec::new(),
            jumps: Jumps::default(),
            threshold,
            unlinked: None,
            next: Next::LOOKUP,
            compiled: Arc::default(),
        }
    }

    /// Forgets all compiled code. Only between blocks.
    pub(crate) fn forget_all(&mut self) {
        self.code.empty(self.kept);
        self.ops.empty();
        self.pieces.clear();
        self.severed = 0;
        self.sites.clear();
        self.unlinked = None;
    }

    /// All blocks are dropped, one of which may be executing.
    pub(crate) fn drop_all_pieces(&mut self) {
        for piece in self.pieces.iter().skip(self.severed) {
            self.code.sever(piece.entry, piece.gone);
        }
        self.severed = self.pieces.len();
        self.unlinked = None;
    }

    /// A block is dropped: what leads to its code leads out.
    pub(crate) fn drop_pieces(&mut self, mut number: u32) {
        while let Some(piece) = self.piece(number) {
            self.code.sever(piece.entry, piece.gone);
            number = piece.older;
        }
        self.unlinked = None;
    }

    fn piece(&self, number: u32) -> Option<Piece> {
        self.pieces.get((number as usize).checked_sub(1)?).copied()
    }

    /// How many pieces a block has.
    fn pieces_from(&self, mut number: u32) -> usize {
        let mut count = 0;
        while let Some(piece) = self.piece(number) {
            count += 1;
            number = piece.older;
        }
        count
    }

    /// The piece for this address, beginning with the newest.
    fn piece_at(&self, mut number: u32, rip: u64) -> Option<Piece> {
        while let Some(piece) = self.piece(number) {
            if piece.rip == rip {
                return Some(piece);
            }
            number = piece.older;
        }
        None
    }

    fn is_full(&self) -> bool {
        self.code.is_full() || self.ops.is_full_for(64 * 4 + 8)
    }
}

// SAFETY: the pointers lead into memory that this value owns.
unsafe impl Send for Jit {}
