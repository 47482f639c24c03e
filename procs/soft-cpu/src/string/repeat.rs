//! The repetition of string instructions.

use super::cursor;
use super::step::Step;
use crate::alu::Word;
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::op::{At, Next};
use crate::state::{Reg, rflags};

/// Turns after which the run loop is to look for interrupts.
const PATIENCE: u32 = 256;

/// What ends a repetition before its count does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Nothing.
    Count,
    /// REPE: the first difference.
    Unequal,
    /// REPNE: the first match.
    Equal,
}

/// Without a prefix.
pub fn once<S: Step, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, S::demand::<W>(cpu));
    attempt!(cpu, at, S::step::<W>(cpu, at));
    at.next(cpu)
}

/// REP of an instruction that does not compare.
pub fn counted<S: Step, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let is_done = attempt!(cpu, at, repeat::<S, W>(cpu, at, Until::Count));
    if is_done { at.next(cpu) } else { again(cpu, at) }
}

/// REPE of a comparison.
pub fn while_equal<S: Step, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let is_done = attempt!(cpu, at, repeat::<S, W>(cpu, at, Until::Unequal));
    if is_done { at.next(cpu) } else { again(cpu, at) }
}

/// REPNE of a comparison.
pub fn while_unequal<S: Step, W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let is_done = attempt!(cpu, at, repeat::<S, W>(cpu, at, Until::Equal));
    if is_done { at.next(cpu) } else { again(cpu, at) }
}

/// Out to the run loop, with RIP at this instruction.
fn again(cpu: &mut Cpu, at: At) -> Next {
    let rip = cpu.rip_at(at);
    cpu.set_rip(rip);
    Next::LOOKUP
}

/// Whether the repetition is over; if not, it was only interrupted. A fault finds the flags as they were before the instruction,
/// although iterations are done (Intel SDM volume 2, CMPS).
#[inline(never)]
fn repeat<S: Step, W: Word>(cpu: &mut Cpu, at: At, until: Until) -> Result<bool, Raised> {
    S::demand::<W>(cpu)?;
    let before = cpu.flags;
    let is_stepping = cpu.system_flags & rflags::TF != 0;
    for _ in 0..PATIENCE {
        let count = cursor::value(cpu, at, Reg::RCX);
        if count == 0 {
            return Ok(true);
        }
        let done = match if is_stepping { 0 } else { S::many::<W>(cpu, at, count) } {
            0 => {
                if let Err(raised) = S::step::<W>(cpu, at) {
                    cpu.flags = before;
                    return Err(raised);
                }
                cpu.replay.commit();
                1
            }
            done => done,
        };
        cursor::set(cpu, at, Reg::RCX, count - done);
        if count == done
            || until == Until::Unequal && !cpu.flags.zf()
            || until == Until::Equal && cpu.flags.zf()
        {
            return Ok(true);
        }
        // A trap comes behind the iteration that asked for it.
        if is_stepping || cpu.debug_pending != 0 {
            break;
        }
    }
    Ok(false)
}
