//! BT BTS BTR BTC.
//!
//! With a register for the bit number, the memory forms reach beyond their operand: the number is signed and counts bits from
//! the operand's address (Intel SDM volume 2, BT). `reached` makes the operand that really is meant.

use crate::alu::{Wide, locked};
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::op::{At, Next, Op};
use crate::state::Flags;

/// What one of these instructions does to the word.
pub trait Change {
    /// Whether the word is written; BT only looks.
    const WRITES: bool = true;
    /// Word and flags.
    fn run<W: Wide>(word: W, bit: W, before: Flags) -> (W, Flags);
}

/// BT.
pub struct Bt;
impl Change for Bt {
    const WRITES: bool = false;
    #[inline(always)]
    fn run<W: Wide>(word: W, bit: W, before: Flags) -> (W, Flags) {
        (word, word.bt(bit, before))
    }
}

/// BTS.
pub struct Bts;
impl Change for Bts {
    #[inline(always)]
    fn run<W: Wide>(word: W, bit: W, before: Flags) -> (W, Flags) {
        word.bts(bit, before)
    }
}

/// BTR.
pub struct Btr;
impl Change for Btr {
    #[inline(always)]
    fn run<W: Wide>(word: W, bit: W, before: Flags) -> (W, Flags) {
        word.btr(bit, before)
    }
}

/// BTC.
pub struct Btc;
impl Change for Btc {
    #[inline(always)]
    fn run<W: Wide>(word: W, bit: W, before: Flags) -> (W, Flags) {
        word.btc(bit, before)
    }
}

#[inline(always)]
fn on_register<O: Change, W: Wide>(cpu: &mut Cpu, at: At, bit: W) -> Next {
    let (word, flags) = O::run(cpu.regs.get::<W>(at.dst), bit, cpu.flags);
    if O::WRITES {
        cpu.regs.set(at.dst, word);
    }
    cpu.flags = flags;
    at.next(cpu)
}

/// `op r, r`.
pub fn register_register<O: Change, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let bit = cpu.regs.get(at.src);
    on_register::<O, W>(cpu, at, bit)
}

/// `op r, imm8`.
pub fn register_immediate<O: Change, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    on_register::<O, W>(cpu, at, W::truncate(at.imm))
}

/// `op m, imm8`.
pub fn memory_immediate<O: Change, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, on_memory::<O, W>(cpu, at, W::truncate(at.imm)));
    at.next(cpu)
}

/// `op m, r`.
pub fn memory_register<O: Change, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, reached(cpu, at, on_memory::<O, W>));
    at.next(cpu)
}

/// `lock op m, imm8`.
pub fn locked_immediate<O: Change, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, on_memory_locked::<O, W>(cpu, at, W::truncate(at.imm)));
    at.next(cpu)
}

/// `lock op m, r`.
pub fn locked_register<O: Change, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, reached(cpu, at, on_memory_locked::<O, W>));
    at.next(cpu)
}

/// Runs `access` on the word that the bit number in register `src` reaches.
#[inline(never)]
fn reached<W: Wide>(
    cpu: &mut Cpu,
    at: At,
    access: impl FnOnce(&mut Cpu, At, W) -> Result<(), Raised>,
) -> Result<(), Raised> {
    let bit: W = cpu.regs.get(at.src);
    let words = (bit.sign_extend() as i64) >> W::BITS.trailing_zeros();
    let displacement = at.displacement.wrapping_add((words as u64).wrapping_mul(W::BYTES as u64));
    let op = Op { displacement, ..*at };
    // SAFETY: the operation outlives `access`, which only reads its operand and never goes on from it.
    let there = unsafe { At::new(&op) };
    access(cpu, there, bit)
}

fn on_memory<O: Change, W: Wide>(cpu: &mut Cpu, at: At, bit: W) -> Result<(), Raised> {
    if O::WRITES {
        cpu.modify::<W>(at, |cpu, old| {
            let (word, flags) = O::run(old, bit, cpu.flags);
            cpu.flags = flags;
            word
        })
    } else {
        let word = cpu.read::<W>(at)?;
        cpu.flags = O::run(word, bit, cpu.flags).1;
        Ok(())
    }
}

fn on_memory_locked<O: Change, W: Wide>(cpu: &mut Cpu, at: At, bit: W) -> Result<(), Raised> {
    let Some(place) = cpu.lockable(at, W::BYTES as u32)? else {
        return on_memory::<O, W>(cpu, at, bit);
    };
    let before = cpu.flags;
    let mut after = before;
    let change = |old| {
        let (word, flags) = O::run(old, bit, before);
        after = flags;
        word
    };
    // SAFETY: `lockable` proved that these bytes are guest RAM that may be written.
    unsafe { locked::update::<W>(place, change) };
    cpu.flags = after;
    Ok(())
}
