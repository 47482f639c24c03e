//! From a block of the interpreter to host code.
//!
//! ```text
//!  head   vector registers into the host's, if any are used; budget -= instructions, out if it is used up
//!  body   instruction after instruction; a TLB check before each access
//!  ends   jumps to successors, each at first to its stub
//!  cold   accesses that missed ─► interpreter ─► back; stubs of exits
//! ```
//!
//! Between blocks the flags are in memory. Within one they stay in the host's register as long as nobody
//! needs it: a TLB check, or the interpreter.

use super::access::Address;
use super::checked::{Miss, refuse_split};
use super::emit::{A, B, Emitter, Hole, Host, Opcode, Rm, STATE, condition};
use super::glue::{Glue, reason};
use super::layout::{self, Home, slot};
use super::plan::{Kind, Planned};
use super::{exit, flags};
use crate::op::Op;

/// Where the guest's flags are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flags {
    Memory,
    Host,
    Both,
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
    pub(super) glue: Glue,
    pub(super) source: Source,
    pub(super) flags: Flags,
    pub(super) misses: Vec<Miss>,
    pub(super) exits: Vec<Exit>,
    /// Vector instructions that come behind the one under way.
    pub(super) vectors_left: usize,
    entry: u32,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(code: &'a mut Emitter, glue: Glue, source: Source) -> Self {
        let entry = code.here();
        let (misses, exits) = (Vec::new(), Vec::new());
        Self { code, glue, source, flags: Flags::Memory, misses, exits, vectors_left: 0, entry }
    }

    /// Emits the whole block; `ops` are the interpreter's, for the instructions that may need it. The
    /// block's exits are left to the caller, who knows where they may lead.
    pub(super) fn block(
        mut self,
        block: &[Planned<'_>],
        ops: &[Option<*const Op>],
    ) -> (Entries, Vec<Exit>) {
        self.vectors_left = block.iter().filter(|planned| planned.is_vector()).count();
        let absent = (self.vectors_left != 0).then(|| self.demand_vectors());
        let count = [self.source.count as u8];
        let budget = Rm::Memory(layout::file(slot::BUDGET));
        // sub dword ptr [budget], count
        self.code.encode(Opcode::narrow(&[0x83]), 5, budget, &count);
        let over = self.code.branch_ahead(condition::SIGN);
        let mut is_ended = false;
        for (planned, op) in block.iter().zip(ops) {
            self.vectors_left -= usize::from(planned.is_vector());
            is_ended = self.instruction(planned, op.unwrap_or(std::ptr::null()));
        }
        if !is_ended {
            self.save_flags();
            self.leave_for(self.source.end.into());
        }
        self.misses();
        if let Some(absent) = absent {
            self.bring_vectors(absent);
        }
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
            Kind::PushMemory(address) => self.push_memory(address, op),
            Kind::Pop(number) => self.pop(number, op),
            Kind::Leave => self.leave(op),
            Kind::Divide(division) => {
                self.divide(division, op);
                self.flags = Flags::Memory;
            }
            Kind::System(system) => self.system(system, op),
            Kind::Vector(vector, None) => {
                vector.emit(self.code, None, A);
                self.note_flags(planned);
            }
            Kind::Vector(vector, Some((address, access))) => {
                let Some(miss) = self.checked(address, access, |this, place, free| {
                    vector.emit(this.code, Some(place), free);
                }) else {
                    self.step(op);
                    return false;
                };
                self.note_flags(planned);
                self.rejoin(miss, op);
            }
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

    pub(super) fn save_flags(&mut self) {
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
    pub(super) fn provide_flags(&mut self, planned: &Planned<'_>, scratch: Host) {
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
        if self.vectors_left != 0 {
            self.refill();
        }
        self.flags = Flags::Memory;
    }

    pub(super) fn call_step(&mut self, op: *const Op) {
        self.code.constant(B, op as u64);
        self.code.mov(A, STATE);
        self.code.load(STATE, layout::file(slot::HOST_STACK));
        self.code.call(self.glue.step);
        self.code.mov(STATE, A);
    }
}
