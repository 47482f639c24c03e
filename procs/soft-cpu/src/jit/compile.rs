//! From a block of the interpreter to host code.
//!
//! ```text
//!  head      vector registers into the host's, if any are used; budget -= instructions, out if it is used up
//!  straight  instruction after instruction; a TLB check before each group of accesses
//!  ends      jumps to successors, each at first to its stub
//!  ───────── elsewhere, where no processor fetches it beforehand:
//!  careful   the instructions again, from the first that may miss; a TLB check before each access
//!  cold      accesses that missed ─► interpreter ─► back; stubs of exits
//! ```
//!
//! The straight version is left for the careful one by the first check that fails, and not entered again.
//!
//! Between blocks the flags are in memory. Within one they stay in the host's register as long as nobody
//! needs it: a TLB check, or the interpreter.

use super::access::Address;
use super::checked::{Miss, refuse_split};
use super::emit::{A, B, Emitter, Hole, Host, Opcode, Rm, STATE, condition};
use super::glue::{Glue, reason};
use super::group::{self, Question};
use super::layout::{self, Home, slot};
use super::plan::{self, Kind, Planned};
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
    /// Host address of the page that it begins in.
    pub(super) page: u64,
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
    /// The careful version's.
    pub(super) is_careful: bool,
}

/// Places within a compiled block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entries {
    pub(super) entry: u32,
    /// To where a dropped block's entry leads.
    pub(super) gone: u32,
}

pub(super) struct Compiler<'a> {
    /// Where the version under way is emitted, and where the other one.
    pub(super) code: &'a mut Emitter,
    other: &'a mut Emitter,
    pub(super) is_careful: bool,
    /// The instruction under way.
    pub(super) index: usize,
    pub(super) questions: Vec<Question>,
    /// Ways out of the straight version, and the instruction each leads to.
    pub(super) missed: Vec<(Hole, usize)>,
    /// Where the careful version of each instruction begins.
    places: Vec<u32>,
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
    pub(super) fn new(
        code: &'a mut Emitter,
        other: &'a mut Emitter,
        glue: Glue,
        source: Source,
    ) -> Self {
        let entry = code.here();
        Self {
            code,
            other,
            is_careful: false,
            index: 0,
            questions: Vec::new(),
            missed: Vec::new(),
            places: Vec::new(),
            glue,
            source,
            flags: Flags::Memory,
            misses: Vec::new(),
            exits: Vec::new(),
            vectors_left: 0,
            entry,
        }
    }

    /// Emits the whole block; `ops` are the interpreter's, for the instructions that may need it. The
    /// block's exits are left to the caller, who knows where they may lead.
    pub(super) fn block(
        mut self,
        block: &mut [Planned<'_>],
        ops: &[Option<*const Op>],
    ) -> (Entries, Vec<Exit>) {
        self.questions = group::questions(block);
        for (planned, question) in block.iter_mut().zip(&self.questions) {
            planned.sure = *question == Question::Answered;
        }
        plan::find_live_flags(block);
        let has_vectors = block.iter().any(Planned::is_vector);
        let absent = has_vectors.then(|| self.demand_vectors());
        let count = [self.source.count as u8];
        let budget = Rm::Memory(layout::file(slot::BUDGET));
        // sub dword ptr [budget], count
        self.code.encode(Opcode::narrow(&[0x83]), 5, budget, &count);
        let over = self.code.branch_ahead(condition::SIGN);
        self.body(block, ops, 0);
        std::mem::swap(&mut self.code, &mut self.other);
        self.careful(block, ops);
        if let Some(absent) = absent {
            self.bring_vectors(absent);
        }
        self.meet(over);
        self.code.encode(Opcode::narrow(&[0x83]), 0, budget, &count);
        exit::give_up(self.code, self.glue, self.source.rip, reason::OVER);
        let gone = self.code.here();
        exit::give_up(self.code, self.glue, self.source.rip, reason::GONE);
        (Entries { entry: self.entry, gone }, self.exits)
    }

    /// From here on what is straight leads to here.
    pub(super) fn meet(&mut self, hole: Hole) {
        self.other.aim(hole, self.code.here());
    }

    /// Emits the instructions from the one with this index.
    fn body(&mut self, block: &[Planned<'_>], ops: &[Option<*const Op>], first: usize) {
        self.vectors_left = block[first..].iter().filter(|planned| planned.is_vector()).count();
        self.flags = Flags::Memory;
        let mut is_ended = false;
        for (index, (planned, op)) in block.iter().zip(ops).enumerate().skip(first) {
            self.index = index;
            self.vectors_left -= usize::from(planned.is_vector());
            if self.is_careful && planned.kind.may_step() {
                // As whoever comes from the straight version has them.
                self.flags_to_memory();
                self.places[index] = self.code.here();
            }
            is_ended = self.instruction(planned, op.unwrap_or(std::ptr::null()));
        }
        if !is_ended {
            self.save_flags();
            self.leave_for(self.source.end.into());
        }
    }

    fn careful(&mut self, block: &mut [Planned<'_>], ops: &[Option<*const Op>]) {
        self.is_careful = true;
        self.places = vec![0; block.len()];
        let Some(first) = self.missed.iter().map(|(_, index)| *index).min() else { return };
        block.iter_mut().for_each(|planned| planned.sure = false);
        plan::find_live_flags(block);
        self.body(block, ops, first);
        self.misses();
        for (hole, index) in std::mem::take(&mut self.missed) {
            self.other.aim(hole, self.places[index]);
        }
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
                    self.refuse(op);
                    return false;
                };
                self.note_flags(planned);
                for hole in [miss, split] {
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
                    self.refuse(op);
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
