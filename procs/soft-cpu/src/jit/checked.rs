//! Instructions that touch memory: a check, and the interpreter where it does not pass.
//!
//! An access that has missed leads out of the way, where the interpreter executes the whole instruction, and
//! back behind it. Called by everybody who emits an access.

use super::access::{Access, Address};
use super::compile::{Compiler, Flags};
use super::emit::{A, Emitter, Hole, Host, Place, condition};
use super::flags;
use crate::op::Op;

/// What the interpreter does in the place of an access that has missed.
#[derive(Debug)]
pub(super) struct Miss {
    hole: Hole,
    op: *const Op,
    /// Where to go on.
    rejoin: u32,
    /// The flags are wanted in the host's register there.
    restore: bool,
    /// And the vector registers in the host's.
    refill: bool,
}

impl Compiler<'_> {
    /// Emits a check and what is done if it passes. `None`: it would never.
    pub(super) fn checked(
        &mut self,
        address: Address,
        access: Access,
        body: impl FnOnce(&mut Self, Place, Host),
    ) -> Option<Hole> {
        self.save_flags();
        let passed = address.check(self.code, access)?;
        self.flags = Flags::Memory;
        body(self, passed.place, passed.free);
        Some(passed.miss)
    }

    /// Whoever has missed comes back here, after the interpreter has executed the instruction.
    pub(super) fn rejoin(&mut self, hole: Hole, op: *const Op) {
        let restore = self.flags != Flags::Memory;
        let refill = self.vectors_left != 0;
        self.misses.push(Miss { hole, op, rejoin: self.code.here(), restore, refill });
    }

    pub(super) fn misses(&mut self) {
        for miss in std::mem::take(&mut self.misses) {
            self.code.bind(miss.hole);
            self.call_step(miss.op);
            if miss.refill {
                self.refill();
            }
            if miss.restore {
                flags::restore(self.code, A);
            }
            self.code.jump(miss.rejoin);
        }
    }
}

/// Taken if the access crosses a cache line.
pub(super) fn refuse_split(code: &mut Emitter, place: Place, free: Host, size: u32) -> Hole {
    const LINE: i32 = 64;
    code.lea(free, place);
    code.arithmetic(4, free, LINE - 1, false);
    code.arithmetic(7, free, LINE - size as i32, false);
    code.branch_ahead(condition::ABOVE)
}
