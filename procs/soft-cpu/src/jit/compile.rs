//! From a block of the interpreter to host code.
//!
//! ```text
//!  head   budget -= instructions, out if it is used up
//!  body   instruction after instruction; a TLB check before each access
//!  ends   jumps to successors, each at first to its stub
//!  cold   accesses that missed ─► interpreter ─► back; stubs of exits
//! ```
//!
//! Between blocks the flags are in memory. Within one they stay in the host's register as long as nobody
//! needs it: a TLB check, or the interpreter.

use super::access::{Access, Address};
use super::emit::{A, B, Emitter, Hole, Host, Opcode, Place, RBP, Rm, STACK, STATE, condition};
use super::glue::{Glue, reason};
use super::layout::{self, Home, slot};
use super::plan::{Kind, Planned, Pushed, Target};
use super::{exit, flags};
use crate::op::Op;

/// Where the guest's flags are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flags {
    Memory,
    Host,
    Both,
}

/// What the interpreter does in the place of an access that has missed.
#[derive(Debug)]
struct Miss {
    hole: Hole,
    op: *const Op,
    /// Where to go on.
    rejoin: u32,
    /// The flags are wanted in the host's register there.
    restore: bool,
}

/// What is to be compiled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// Linear address of the block.
    pub(super) rip: u64,
    /// Instructions of it.
    pub(super) count: u16,
    /// Where it goes on if no instruction ends it, as a distance.
    pub(super) end: u16,
}

/// A way out of a block that leads to a known address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exit {
    pub(super) hole: Hole,
    pub(super) target: u64,
}

/// Places within a compiled block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entries {
    pub(super) entry: u32,
    /// To where a dropped block's entry leads.
    pub(super) gone: u32,
}

pub(super) struct Compiler<'a> {
    pub(super) code: &'a mut Emitter,
    glue: Glue,
    source: Source,
    flags: Flags,
    misses: Vec<Miss>,
    exits: Vec<Exit>,
    entry: u32,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(code: &'a mut Emitter, glue: Glue, source: Source) -> Self {
        let entry = code.here();
        let (misses, exits) = (Vec::new(), Vec::new());
        Self { code, glue, source, flags: Flags::Memory, misses, exits, entry }
    }

    /// Emits the whole block; `ops` are the interpreter's, for the instructions that may need it. The
    /// block's exits are left to the caller, who knows where they may lead.
    pub(super) fn block(
        mut self,
        block: &[Planned<'_>],
        ops: &[Option<*const Op>],
    ) -> (Entries, Vec<Exit>) {
        let count = [self.source.count as u8];
        let budget = Rm::Memory(layout::file(slot::BUDGET));
        // sub dword ptr [budget], count
        self.code.encode(Opcode::narrow(&[0x83]), 5, budget, &count);
        let over = self.code.branch_ahead(condition::SIGN);
        let mut is_ended = false;
        for (planned, op) in block.iter().zip(ops) {
            is_ended = self.instruction(planned, op.unwrap_or(std::ptr::null()));
        }
        if !is_ended {
            self.save_flags();
            self.leave_for(self.source.end.into());
        }
        self.misses();
        self.code.bind(over);
        self.code.encode(Opcode::narrow(&[0x83]), 0, budget, &count);
        exit::give_up(self.code, self.glue, self.source.rip, reason::OVER);
        let gone = self.code.here();
        exit::give_up(self.code, self.glue, self.source.rip, reason::GONE);
        (Entries { entry: self.entry, gone }, self.exits)
    }

    /// Emits one instruction; whether it ends the block.
    fn instruction(&mut self, planned: &Planned<'_>, op: *const Op) -> bool {
        let next = u64::from(planned.start) + planned.instruction.len() as u64;
        match planned.kind {
            Kind::Nothing => {}
            Kind::Copied(copy, None) => {
                self.provide_flags(planned, A);
                copy.emit(self.code, None);
                self.note_flags(planned);
            }
            Kind::Copied(copy, Some((address, access))) => {
                let mut split = None;
                let Some(miss) = self.checked(address, access, |this, place, free| {
                    if access.locked && access.size > 1 {
                        split = Some(refuse_split(this.code, place, free, access.size));
                    }
                    this.provide_flags(planned, free);
                    copy.emit(this.code, Some((place, free)));
                }) else {
                    self.step(op);
                    return false;
                };
                self.note_flags(planned);
                for hole in [Some(miss), split].into_iter().flatten() {
                    self.rejoin(hole, op);
                }
            }
            Kind::Lea(address) => self.lea(planned, address),
            Kind::Push(pushed) => self.push(pushed, op),
            Kind::Pop(number) => self.pop(number, op),
            Kind::Leave => self.leave(op),
            Kind::Divide(division) => {
                self.divide(division, op);
                self.flags = Flags::Memory;
            }
            Kind::Vector(vector) => self.vector(&vector, op),
            Kind::Stepped => self.step(op),
            Kind::Ended => {
                self.step(op);
                return true;
            }
            Kind::Jump(distance) => {
                self.save_flags();
                self.leave_for(distance);
                return true;
            }
            Kind::Branch(condition, distance) => {
                self.branch(planned, condition, distance, next);
                return true;
            }
            Kind::Call(distance) => {
                self.save_flags();
                self.push_return(next, op);
                self.leave_for(distance);
                return true;
            }
            Kind::Return(dropped) => {
                self.save_flags();
                self.near_return(dropped, op);
                return true;
            }
            Kind::Indirect { call, target } => {
                self.save_flags();
                self.indirect(call, target, next, op);
                return true;
            }
        }
        false
    }

    // Flags.

    fn save_flags(&mut self) {
        if self.flags == Flags::Host {
            flags::save(self.code, A);
            self.flags = Flags::Both;
        }
    }

    /// As `save_flags`, for who will lose the host's.
    pub(super) fn flags_to_memory(&mut self) {
        self.save_flags();
        self.flags = Flags::Memory;
    }

    /// Brings the flags that an instruction needs to the host's.
    fn provide_flags(&mut self, planned: &Planned<'_>, scratch: Host) {
        if self.flags != Flags::Memory || !planned.needs_flags() {
            return;
        }
        if planned.needs_only_carry() {
            return flags::restore_carry(self.code);
        }
        flags::restore(self.code, scratch);
        self.flags = Flags::Both;
    }

    fn note_flags(&mut self, planned: &Planned<'_>) {
        if planned.writes_flags() {
            self.flags = Flags::Host;
        }
    }

    // Memory.

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
        self.misses.push(Miss { hole, op, rejoin: self.code.here(), restore });
    }

    /// A check that cannot fail to be emitted: the address has a register.
    fn on_stack(
        &mut self,
        number: u8,
        displacement: i32,
        write: bool,
        op: *const Op,
        body: impl FnOnce(&mut Self, Place, Host),
    ) {
        let address = Address::at(number, displacement);
        match self.checked(address, Access { size: 8, write, locked: false }, body) {
            Some(miss) => self.rejoin(miss, op),
            None => self.step(op),
        }
    }

    fn push(&mut self, pushed: Pushed, op: *const Op) {
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

    fn pop(&mut self, number: u8, op: *const Op) {
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

    fn leave(&mut self, op: *const Op) {
        self.on_stack(5, 0, false, op, |this, place, free| {
            this.code.load(free, place);
            this.code.lea(STACK, Place::at(RBP, 8));
            this.code.mov(RBP, free);
        });
    }

    /// The host register that a guest register is in, or has been loaded into.
    pub(super) fn in_host(&mut self, number: u8, scratch: Host) -> Host {
        match layout::home(number) {
            Home::Host(host) => host,
            Home::File(reg) => {
                self.code.load(scratch, layout::file(reg));
                scratch
            }
        }
    }

    fn lea(&mut self, planned: &Planned<'_>, address: Address) {
        let register = planned.instruction.op0_register();
        let home = layout::home(register.number() as u8);
        address.compute(self.code, A, Some(B));
        match home {
            Home::Host(host) => {
                let opcode = Opcode { wide: register.is_gpr64(), ..Opcode::narrow(&[0x89]) };
                self.code.encode(opcode, A, Rm::Register(host), &[]);
            }
            Home::File(reg) => {
                if !register.is_gpr64() {
                    // mov r10d, r10d
                    self.code.encode(Opcode::narrow(&[0x89]), A, Rm::Register(A), &[]);
                }
                self.code.store(layout::file(reg), A);
            }
        }
    }

    // The interpreter.

    pub(super) fn step(&mut self, op: *const Op) {
        self.save_flags();
        self.call_step(op);
        self.flags = Flags::Memory;
    }

    fn call_step(&mut self, op: *const Op) {
        self.code.constant(B, op as u64);
        self.code.mov(A, STATE);
        self.code.load(STATE, layout::file(slot::HOST_STACK));
        self.code.call(self.glue.step);
        self.code.mov(STATE, A);
    }

    fn misses(&mut self) {
        for miss in std::mem::take(&mut self.misses) {
            self.code.bind(miss.hole);
            self.call_step(miss.op);
            if miss.restore {
                flags::restore(self.code, A);
            }
            self.code.jump(miss.rejoin);
        }
    }

    // Ends.

    fn leave_for(&mut self, distance: u64) {
        let target = self.source.rip.wrapping_add(distance);
        let hole = self.code.jump_ahead();
        self.exits.push(Exit { hole, target });
    }

    fn branch(&mut self, planned: &Planned<'_>, condition: u8, distance: u64, next: u64) {
        self.provide_flags(planned, A);
        self.save_flags();
        let hole = self.code.branch_ahead(condition);
        let target = self.source.rip.wrapping_add(distance);
        self.exits.push(Exit { hole, target });
        self.leave_for(next);
    }

    fn push_return(&mut self, next: u64, op: *const Op) {
        let back = self.source.rip.wrapping_add(next);
        self.on_stack(4, -8, true, op, |this, place, free| {
            this.code.store_constant(place, back, free);
            this.code.lea(STACK, Place::at(STACK, -8));
        });
    }

    fn near_return(&mut self, dropped: u16, op: *const Op) {
        self.on_stack(4, 0, false, op, |this, place, _| {
            this.code.load(A, place);
            this.look_up(op);
            this.code.lea(STACK, Place::at(STACK, 8 + i32::from(dropped)));
            this.jump_to(Place::at(B, exit::JUMP_CODE));
        });
    }

    fn indirect(&mut self, call: bool, target: Target, next: u64, op: *const Op) {
        match target {
            Target::Register(number) => {
                let host = self.in_host(number, A);
                if host != A {
                    self.code.mov(A, host);
                }
            }
            Target::Memory(address) => {
                let access = Access { size: 8, write: false, locked: false };
                let missed = self.checked(address, access, |this, place, _| {
                    this.code.load(A, place);
                });
                match missed {
                    Some(miss) => self.rejoin(miss, op),
                    None => return self.step(op),
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

/// Taken if the access crosses a cache line.
fn refuse_split(code: &mut Emitter, place: Place, free: Host, size: u32) -> Hole {
    const LINE: i32 = 64;
    code.lea(free, place);
    code.arithmetic(4, free, LINE - 1, false);
    code.arithmetic(7, free, LINE - size as i32, false);
    code.branch_ahead(condition::ABOVE)
}
