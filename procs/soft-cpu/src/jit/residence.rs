//! Where the guest's vector registers and MXCSR are: in memory, or in the host's own.
//!
//! ```text
//!  memory ── a block that uses them begins ─► host ── compiled code is left, or the interpreter called ─► memory
//! ```
//!
//! So Rust code finds them where it always does and never runs under the guest's MXCSR, and compiled code that stays
//! in compiled code moves nothing. Exceptions that the guest masks are masked by its own word, which collects what
//! they raise. A guest that has unmasked one is refused at the block's beginning: the host must not trap for it.
//!
//! Law: no instruction within a block changes the masks: those that may, end theirs.

use super::compile::Compiler;
use super::emit::{A, B, Emitter, Hole, Host, Opcode, Place, Rm, condition};
use super::glue::reason;
use super::layout::{self, slot};
use super::{Piece, exit};
use crate::cpu::Cpu;
use crate::vector::mxcsr;

/// MXCSR's mask bits.
const MASKS: u32 = 0x1f80;

/// Opcodes behind 0F.
const MOVAPS_LOAD: u8 = 0x28;
const MOVAPS_STORE: u8 = 0x29;
const MXCSR: u8 = 0xae;
/// Which of the instructions that share it.
const LOAD: u8 = 2;
const STORE: u8 = 3;

impl Cpu {
    /// Whether this code may run as things stand.
    pub(super) fn may_run(&self, piece: &Piece) -> bool {
        !piece.has_vectors || self.fx.mxcsr & MASKS == MASKS
    }
}

/// The word that Rust code runs under; where it lies.
pub(super) fn word(code: &mut Emitter) -> u32 {
    let place = code.here();
    code.raw(&mxcsr::DEFAULT.to_le_bytes());
    place
}

/// From memory to the host's, and on to where [`A`] points. Leaves the flags alone.
pub(super) fn bring(code: &mut Emitter) -> u32 {
    let place = code.here();
    code.encode(Opcode::narrow(&[0x0f, MXCSR]), LOAD, Rm::Memory(layout::mxcsr()), &[]);
    for number in 0..16 {
        let from = Rm::Memory(layout::xmm(number));
        code.encode(Opcode::narrow(&[0x0f, MOVAPS_LOAD]), number, from, &[]);
    }
    // mov dword ptr [vectors], 1
    let here = Rm::Memory(layout::file(slot::VECTORS));
    code.encode(Opcode::narrow(&[0xc7]), 0, here, &1u32.to_le_bytes());
    // jmp r10
    code.encode(Opcode::narrow(&[0xff]), 4, Rm::Register(A), &[]);
    place
}

/// Back, if they are the host's. `state` is what points to the register file here, `word` what [`word`] said.
pub(super) fn put_back(code: &mut Emitter, state: Host, word: u32) {
    let from = |place: Place| Rm::Memory(Place { base: Some(state), ..place });
    let vectors = from(layout::file(slot::VECTORS));
    // cmp dword ptr [vectors], 0
    code.encode(Opcode::narrow(&[0x83]), 7, vectors, &[0]);
    let absent = code.branch_ahead(condition::EQUAL);
    code.encode(Opcode::narrow(&[0x0f, MXCSR]), STORE, from(layout::mxcsr()), &[]);
    code.encode(Opcode::narrow(&[0x0f, MXCSR]), LOAD, Rm::Code(word), &[]);
    for number in 0..16 {
        let to = from(layout::xmm(number));
        code.encode(Opcode::narrow(&[0x0f, MOVAPS_STORE]), number, to, &[]);
    }
    code.encode(Opcode::narrow(&[0xc7]), 0, vectors, &0u32.to_le_bytes());
    code.bind(absent);
}

impl Compiler<'_> {
    /// At a block's beginning, where the flags are in memory: taken if the vectors are as well.
    pub(super) fn demand_vectors(&mut self) -> (Hole, u32) {
        let vectors = Rm::Memory(layout::file(slot::VECTORS));
        self.code.encode(Opcode::narrow(&[0x83]), 7, vectors, &[0]);
        let absent = self.code.branch_ahead(condition::EQUAL);
        (absent, self.code.here())
    }

    /// What is done then: they are brought, and the block begins; or it is left as if it had not been entered.
    pub(super) fn bring_vectors(&mut self, (absent, begin): (Hole, u32)) {
        self.meet(absent);
        let narrow = |bytes| Opcode::narrow(bytes);
        self.code.encode(narrow(&[0x8b]), B, Rm::Memory(layout::mxcsr()), &[]);
        self.code.arithmetic(4, B, MASKS as i32, false);
        self.code.arithmetic(7, B, MASKS as i32, false);
        let unmasked = self.code.branch_ahead(condition::NOT_EQUAL);
        self.code.encode(Opcode::wide(&[0x8d]), A, Rm::Code(begin), &[]);
        self.code.jump(self.glue.bring);
        self.code.bind(unmasked);
        exit::give_up(self.code, self.glue, self.source.rip, reason::UNMASKED);
    }

    /// Behind a call of the interpreter: brings them again.
    pub(super) fn refill(&mut self) {
        /// Of the two instructions that follow.
        const LENGTH: u32 = 7 + 5;
        let behind = self.code.here() + LENGTH;
        self.code.encode(Opcode::wide(&[0x8d]), A, Rm::Code(behind), &[]);
        self.code.jump(self.glue.bring);
        debug_assert_eq!(self.code.here(), behind);
    }
}
