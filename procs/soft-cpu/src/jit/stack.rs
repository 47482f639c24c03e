//! Instructions that push and pop.
//!
//! The stack pointer changes behind the access, so that a fault finds it as it was.

use super::access::{Access, Address};
use super::compile::Compiler;
use super::emit::{Host, Place, RBP, STACK};
use super::layout::{self, Home, slot};
use super::plan::Pushed;
use crate::op::Op;

impl Compiler<'_> {
    /// A check that cannot fail to be emitted: the address has a register.
    pub(super) fn on_stack(
        &mut self,
        number: u8,
        displacement: i32,
        write: bool,
        op: *const Op,
        body: impl FnOnce(&mut Self, Place, Host),
    ) {
        let address = Address::at(number, displacement);
        match self.checked(address, Access::of(8, write), body) {
            Some(miss) => self.rejoin(miss, op),
            None => self.refuse(op),
        }
    }

    pub(super) fn push(&mut self, pushed: Pushed, op: *const Op) {
        self.on_stack(4, -8, true, op, |this, place, free| {
            match pushed {
                Pushed::Register(number) => {
                    let from = this.in_host(number, free);
                    this.code.store(place, from);
                }
                Pushed::Constant(value) => {
                    this.code.store_constant(place, i64::from(value) as u64, free);
                }
            }
            this.code.lea(STACK, Place::at(STACK, -8));
        });
    }

    /// Of the two accesses, whichever misses is the whole instruction's: nothing has changed yet.
    pub(super) fn push_memory(&mut self, address: Address, op: *const Op) {
        let loaded = self.checked(address, Access::of(8, false), |this, place, free| {
            this.code.load(free, place);
            this.code.store(layout::file(slot::SPARE), free);
        });
        let Some(loaded) = loaded else { return self.refuse(op) };
        self.on_stack(4, -8, true, op, |this, place, free| {
            this.code.load(free, layout::file(slot::SPARE));
            this.code.store(place, free);
            this.code.lea(STACK, Place::at(STACK, -8));
        });
        self.rejoin(loaded, op);
    }

    pub(super) fn pop(&mut self, number: u8, op: *const Op) {
        self.on_stack(4, 0, false, op, |this, place, free| match layout::home(number) {
            Home::Host(STACK) => this.code.load(STACK, place),
            home => {
                let to = match home {
                    Home::Host(host) => host,
                    Home::File(_) => free,
                };
                this.code.load(to, place);
                if let Home::File(reg) = home {
                    this.code.store(layout::file(reg), to);
                }
                this.code.lea(STACK, Place::at(STACK, 8));
            }
        });
    }

    pub(super) fn leave(&mut self, op: *const Op) {
        self.on_stack(5, 0, false, op, |this, place, free| {
            this.code.load(free, place);
            this.code.lea(STACK, Place::at(RBP, 8));
            this.code.mov(RBP, free);
        });
    }

    pub(super) fn push_return(&mut self, next: u64, op: *const Op) {
        let back = self.source.rip.wrapping_add(next);
        self.on_stack(4, -8, true, op, |this, place, free| {
            this.code.store_constant(place, back, free);
            this.code.lea(STACK, Place::at(STACK, -8));
        });
    }
}
