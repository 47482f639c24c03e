//! The way into compiled code, out of it, and from it to an operation of the interpreter.
//!
//! ```text
//!  enter: host registers to the host's stack, guest registers from the file, jump
//!  leave: guest registers to the file, host registers back, return r11d
//!  step:  guest registers to the file, call, guest registers back: and on, or to where the operation has led, or leave
//!  look:  an exit that counts no more: to where RIP is compiled, or leave
//!  bring: vector registers from memory, jump to r10; both ways out put them back
//! ```
//!
//! Written once into each code memory, at its beginning.

use super::emit::{A, B, Emitter, Host, Opcode, Place, RAX, RBP, RDI, RSI, Rm, STATE, condition};
use super::layout::{self, slot};
use super::step::{self, answer};
use super::{exit, residence};
use crate::state::Reg;

/// Registers that a function must give back, in System V's convention.
const KEPT: [Host; 6] = [3, RBP, 12, 13, 14, 15];

/// Where the parts lie.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Glue {
    pub(super) enter: u32,
    pub(super) leave: u32,
    pub(super) step: u32,
    pub(super) look: u32,
    pub(super) bring: u32,
}

/// How compiled code says why it came back. Larger numbers: the exit that has no successor yet.
pub(super) mod reason {
    /// The budget is used up; RIP is exact.
    pub(in crate::jit) const OVER: u32 = 0;
    /// An operation of the interpreter has left its block: see `Jit::next`.
    pub(in crate::jit) const STOPPED: u32 = 1;
    /// The code was dropped; RIP is exact.
    pub(in crate::jit) const GONE: u32 = 2;
    /// The code computes with vectors, and the guest has unmasked an exception of theirs; RIP is exact.
    pub(in crate::jit) const UNMASKED: u32 = 3;
    /// The first exit.
    pub(in crate::jit) const FIRST_EXIT: u32 = 4;
}

impl Glue {
    /// Emits all of it.
    pub(super) fn emit(code: &mut Emitter) -> Self {
        let word = residence::word(code);
        let bring = residence::bring(code);
        let enter = code.here();
        KEPT.iter().for_each(|register| push(code, *register));
        // sub rsp, 8: the stack is a multiple of 16 again.
        code.arithmetic(5, STATE, 8, true);
        let distance = layout::file(slot::HOST_STACK).displacement;
        code.store(Place::at(RDI, distance), STATE);
        code.mov(STATE, RDI);
        code.mov(B, RSI);
        fill(code, STATE);
        // jmp r11
        code.encode(Opcode::narrow(&[0xff]), 4, Rm::Register(B), &[]);

        let leave = code.here();
        spill(code, STATE);
        residence::put_back(code, STATE, word);
        // mov eax, r11d
        code.encode(Opcode::narrow(&[0x89]), B, Rm::Register(RAX), &[]);
        code.load(STATE, layout::file(slot::HOST_STACK));
        back(code);

        // Here r10 points to the state, r11 to the operation, and the host's stack is in use.
        let step = code.here();
        spill(code, A);
        residence::put_back(code, A, word);
        push(code, A);
        code.mov(RDI, A);
        code.mov(RSI, B);
        code.constant(RAX, step::step as *const () as u64);
        // call rax
        code.encode(Opcode::narrow(&[0xff]), 2, Rm::Register(RAX), &[]);
        pop(code, A);
        code.arithmetic(7, RAX, answer::STOPPED as i32, true);
        let stopped = code.branch_ahead(condition::EQUAL);
        let elsewhere = code.branch_ahead(condition::ABOVE);
        fill(code, A);
        code.raw(&[0xc3]);
        code.bind(elsewhere);
        // The return address is forgotten with the stack.
        code.mov(B, RAX);
        fill(code, A);
        code.mov(STATE, A);
        // jmp r11
        code.encode(Opcode::narrow(&[0xff]), 4, Rm::Register(B), &[]);
        code.bind(stopped);
        // The return address is not needed any more.
        pop(code, A);
        code.constant(RAX, reason::STOPPED.into());
        back(code);

        // The reason to leave for is in the spare slot.
        let look = code.here();
        code.load(A, layout::file(Reg::RIP));
        let unknown = exit::look_up(code);
        code.encode(Opcode::narrow(&[0xff]), 4, Rm::Memory(Place::at(B, exit::JUMP_CODE)), &[]);
        unknown.into_iter().for_each(|hole| code.bind(hole));
        code.load(B, layout::file(slot::SPARE));
        code.jump(leave);
        Self { enter, leave, step, look, bring }
    }
}

fn of(base: Host, reg: crate::state::Reg) -> Place {
    Place { base: Some(base), ..layout::file(reg) }
}

fn spill(code: &mut Emitter, state: Host) {
    for (reg, host) in layout::at_home() {
        code.store(of(state, reg), host);
    }
}

fn fill(code: &mut Emitter, state: Host) {
    for (reg, host) in layout::at_home() {
        code.load(host, of(state, reg));
    }
}

fn back(code: &mut Emitter) {
    code.arithmetic(0, STATE, 8, true);
    KEPT.iter().rev().for_each(|register| pop(code, *register));
    code.raw(&[0xc3]);
}

fn push(code: &mut Emitter, register: Host) {
    if register >= 8 {
        code.raw(&[0x41]);
    }
    code.raw(&[0x50 | register & 7]);
}

fn pop(code: &mut Emitter, register: Host) {
    if register >= 8 {
        code.raw(&[0x41]);
    }
    code.raw(&[0x58 | register & 7]);
}
