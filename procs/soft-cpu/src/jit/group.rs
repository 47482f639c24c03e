//! Accesses of a block that share one check.
//!
//! Fields of one structure, pushes and pops, are reached through one register that does not change, or by a known
//! distance. The first of them asks for all the bytes between the lowest and the highest; the others need not ask, for
//! nothing within a block takes back what a translation permits. Where that question is answered with no, each access
//! of the careful version asks for itself.
//!
//! Law: a translation that was found is held in the register file's slot of the very register, whose value is in the
//! host's while compiled code runs: whatever calls the interpreter ends all groups, and so does what changes what the
//! level permits.
//!
//! Absent on purpose: addresses of more than one register, and locked or aligned accesses, which ask for more.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic as M, OpAccess, OpKind, Register};

use super::emit::{Host, RBP, STACK};
use super::layout::{self, Home};
use super::plan::{Kind, Planned};
use super::system::System;

/// Most bytes between the lowest and the highest: few such runs cross a page.
const MOST: i64 = 256;

/// What the straight version of an instruction asks before its access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// For itself, as any instruction may.
    Own,
    /// For the bytes `from..to` relative to the register, for itself and, if it `leads`, for others.
    Shared { from: i32, to: i32, write: bool, leads: bool },
    /// Nothing: an earlier one has.
    Answered,
}

/// A group under way.
#[derive(Debug)]
struct Open {
    register: Host,
    /// How far the register has moved since.
    moved: i64,
    leader: usize,
    from: i64,
    to: i64,
    write: bool,
}

/// One plain access: a register and a distance from it.
#[derive(Debug, Clone, Copy)]
struct Plain {
    register: Host,
    displacement: i32,
    size: u32,
    write: bool,
}

/// Of each instruction of a block.
pub(super) fn questions(block: &[Planned<'_>]) -> Vec<Question> {
    let mut questions = vec![Question::Own; block.len()];
    let (mut groups, mut info) = (Vec::<Open>::new(), InstructionInfoFactory::new());
    for (index, planned) in block.iter().enumerate() {
        if let Some(plain) = plain(&planned.kind) {
            questions[index] = match join(&mut groups, plain) {
                Some(group) => {
                    questions[group.leader] = group.question(true);
                    Question::Answered
                }
                None => {
                    groups.retain(|group| group.register != plain.register);
                    let group = Open::begin(plain, index);
                    let question = group.question(false);
                    groups.push(group);
                    question
                }
            };
        }
        follow(&mut groups, planned, &mut info);
    }
    questions
}

impl Open {
    fn begin(plain: Plain, leader: usize) -> Self {
        let from = i64::from(plain.displacement);
        let to = from + i64::from(plain.size);
        Self { register: plain.register, moved: 0, leader, from, to, write: plain.write }
    }

    fn question(&self, leads: bool) -> Question {
        let (from, to) = (self.from as i32, self.to as i32);
        Question::Shared { from, to, write: self.write, leads }
    }
}

fn join(groups: &mut [Open], plain: Plain) -> Option<&Open> {
    let group = groups.iter_mut().find(|group| group.register == plain.register)?;
    let at = i64::from(plain.displacement) + group.moved;
    let (from, to) = (group.from.min(at), group.to.max(at + i64::from(plain.size)));
    let fits = to - from <= MOST && i32::try_from(from).is_ok() && i32::try_from(to).is_ok();
    fits.then(|| {
        (group.from, group.to, group.write) = (from, to, group.write | plain.write);
        &*group
    })
}

fn plain(kind: &Kind<'_>) -> Option<Plain> {
    let on = |register, displacement, write| Plain { register, displacement, size: 8, write };
    Some(match kind {
        Kind::Copied(_, Some((address, access))) | Kind::Vector(_, Some((address, access))) => {
            let (register, displacement) = address.simple()?;
            let asks_more = access.locked || access.aligned;
            (!asks_more).then_some(Plain {
                register,
                displacement,
                size: access.size,
                write: access.write,
            })?
        }
        Kind::Push(_) | Kind::Call(_) => on(STACK, -8, true),
        Kind::Pop(_) | Kind::Return(_) => on(STACK, 0, false),
        Kind::Leave => on(RBP, 0, false),
        _ => return None,
    })
}

/// What the instruction means for the groups under way.
fn follow(groups: &mut Vec<Open>, planned: &Planned<'_>, info: &mut InstructionInfoFactory) {
    let is_end = matches!(
        planned.kind,
        Kind::Stepped | Kind::Ended | Kind::System(System::OpenUserPages(_))
    );
    if is_end {
        return groups.clear();
    }
    let moved = stack_moves(planned);
    let written = info.info(&planned.instruction).used_registers().iter();
    for used in written.filter(|used| !matches!(used.access(), OpAccess::Read | OpAccess::CondRead))
    {
        let register = used.register().full_register();
        if !register.is_gpr() {
            continue;
        }
        let Home::Host(host) = layout::home(register.number() as u8) else { continue };
        match moved {
            Some(moved) if host == STACK => {
                let mut group = groups.iter_mut().filter(|group| group.register == STACK);
                group.by_ref().for_each(|group| group.moved += moved);
            }
            _ => groups.retain(|group| group.register != host),
        }
    }
}

/// How far the stack pointer is moved, where that is known.
fn stack_moves(planned: &Planned<'_>) -> Option<i64> {
    match planned.kind {
        Kind::Push(_) | Kind::PushMemory(_) | Kind::System(System::PushFlags) => Some(-8),
        Kind::Pop(number) if number != 4 => Some(8),
        Kind::Copied(_, None) => constant_move(&planned.instruction),
        _ => None,
    }
}

fn constant_move(instruction: &Instruction) -> Option<i64> {
    let is_stack = instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() == Register::RSP
        && instruction.op_count() == 2;
    let by = instruction.try_immediate(1).ok().filter(|_| is_stack)? as i64;
    let is_near = by.unsigned_abs() < 1 << 24;
    match instruction.mnemonic() {
        M::Add if is_near => Some(by),
        M::Sub if is_near => Some(-by),
        _ => None,
    }
}
