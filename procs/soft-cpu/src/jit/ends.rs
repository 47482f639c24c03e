//! How a block ends: by a jump to where another one may be compiled.
//!
//! Nothing is emitted behind these. Where they lead is an [`Exit`] if it is known, and looked up if not.

use super::access::Access;
use super::compile::{Compiler, Exit};
use super::emit::{A, B, Opcode, Place, Rm, STACK};
use super::exit;
use super::layout::{self, slot};
use super::plan::{Planned, Target};
use crate::op::Op;

impl Compiler<'_> {
    pub(super) fn leave_for(&mut self, distance: u64) {
        let target = self.source.rip.wrapping_add(distance);
        let hole = self.code.jump_ahead();
        self.exits.push(Exit { hole, target, is_careful: self.is_careful });
    }

    pub(super) fn branch(
        &mut self,
        planned: &Planned<'_>,
        condition: u8,
        distance: u64,
        next: u64,
    ) {
        self.provide_flags(planned, A);
        self.save_flags();
        let hole = self.code.branch_ahead(condition);
        let target = self.source.rip.wrapping_add(distance);
        self.exits.push(Exit { hole, target, is_careful: self.is_careful });
        self.leave_for(next);
    }

    pub(super) fn near_return(&mut self, dropped: u16, op: *const Op) {
        self.on_stack(4, 0, false, op, |this, place, _| {
            this.code.load(A, place);
            this.look_up(op);
            this.code.lea(STACK, Place::at(STACK, 8 + i32::from(dropped)));
            this.jump_to(Place::at(B, exit::JUMP_CODE));
        });
    }

    pub(super) fn indirect(&mut self, call: bool, target: Target, next: u64, op: *const Op) {
        match target {
            Target::Register(number) => {
                let host = self.in_host(number, A);
                if host != A {
                    self.code.mov(A, host);
                }
            }
            Target::Memory(address) => {
                let access = Access::of(8, false);
                let missed = self.checked(address, access, |this, place, _| {
                    this.code.load(A, place);
                });
                match missed {
                    Some(miss) => self.rejoin(miss, op),
                    None => return self.refuse(op),
                }
            }
        }
        self.look_up(op);
        if !call {
            return self.jump_to(Place::at(B, exit::JUMP_CODE));
        }
        self.code.load(A, Place::at(B, exit::JUMP_CODE));
        self.code.store(layout::file(slot::SPARE), A);
        self.push_return(next, op);
        self.jump_to(layout::file(slot::SPARE));
    }

    /// Finds where the address in [`A`] is compiled; [`B`] points to the answer. If there is none, the
    /// interpreter executes the instruction, and nothing must have changed yet.
    fn look_up(&mut self, op: *const Op) {
        for hole in exit::look_up(self.code) {
            self.rejoin(hole, op);
        }
    }

    fn jump_to(&mut self, place: Place) {
        self.code.encode(Opcode::narrow(&[0xff]), 4, Rm::Memory(place), &[]);
    }
}
