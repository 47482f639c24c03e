//! Instructions that touch memory: a check, and the interpreter where it does not pass.
//!
//! ```text
//!  straight:  shared check ─► access, access, access …
//!                  └ missed ─► the same instruction of the careful version
//!  careful:   check ─► access, check ─► access …
//!               └ missed ─► the interpreter executes the instruction ─► back behind it
//! ```
//!
//! Called by everybody who emits an access.

use super::access::{Access, Address};
use super::compile::{Compiler, Flags};
use super::emit::{A, B, Emitter, Hole, Host, Place, condition};
use super::group::Question;
use super::{flags, layout};
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
    /// Emits a check and what is done if it passes; taken if it does not, if that can be. `None`: it would
    /// never pass.
    pub(super) fn checked(
        &mut self,
        address: Address,
        access: Access,
        body: impl FnOnce(&mut Self, Place, Host),
    ) -> Option<Option<Hole>> {
        match (self.question(), address.simple()) {
            (Question::Answered, Some((register, displacement))) => {
                self.code.load(B, layout::shelf(register));
                let index = Some((register, 0));
                body(self, Place { base: Some(B), index, displacement }, A);
                Some(None)
            }
            (Question::Shared { from, to, write, leads }, Some((register, displacement))) => {
                self.save_flags();
                let range = Access::of((to - from) as u32, write);
                let passed = Address::on(register, from).check(self.code, range)?;
                self.flags = Flags::Memory;
                if leads {
                    self.code.store(layout::shelf(register), B);
                }
                body(self, Place { displacement, ..passed.place }, passed.free);
                Some(Some(passed.miss))
            }
            _ => {
                self.save_flags();
                let passed = address.check(self.code, access)?;
                self.flags = Flags::Memory;
                body(self, passed.place, passed.free);
                Some(Some(passed.miss))
            }
        }
    }

    fn question(&self) -> Question {
        if self.is_careful { Question::Own } else { self.questions[self.index] }
    }

    /// In the place of an instruction whose check would never pass.
    pub(super) fn refuse(&mut self, op: *const Op) {
        if self.is_careful {
            return self.step(op);
        }
        self.flags_to_memory();
        let hole = self.code.jump_ahead();
        self.missed.push((hole, self.index));
    }

    /// Whoever has missed comes back here, after the interpreter has executed the instruction; from the straight
    /// version, he begins it again in the careful one. The flags were in memory where he missed.
    pub(super) fn rejoin(&mut self, hole: impl Into<Option<Hole>>, op: *const Op) {
        let Some(hole) = hole.into() else { return };
        if !self.is_careful {
            return self.missed.push((hole, self.index));
        }
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
