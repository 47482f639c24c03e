//! Moves to and from MMX registers, single words of them, EMMS.

use super::lane::{masked_store_target, store_masked};
use super::mmx::{Memory4, Memory8, Register, Source, get, set};
use super::operand::{self, mm_register, xmm_register};
use super::{halves, xmm};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use crate::state::Reg;
use crate::width::Width;
use crate::x87::control;
use crate::x87::handlers::wait;
use iced_x86::Mnemonic as M;

/// The handler of an instruction of this file.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    match draft.instruction.mnemonic() {
        M::Emms => Some(emms),
        M::Movd | M::Movq | M::Movntq => whole(draft),
        M::Movq2dq => {
            draft.op.dst = xmm_register(draft, 0)?;
            draft.op.src = mm_register(draft, 1)?;
            Some(to_xmm)
        }
        M::Movdq2q => {
            draft.op.dst = mm_register(draft, 0)?;
            draft.op.src = xmm_register(draft, 1)?;
            Some(from_xmm)
        }
        M::Pinsrw => {
            draft.op.dst = mm_register(draft, 0)?;
            draft.op.imm = (draft.immediate(2)? & 3) * 16;
            let Some(src) = draft.register(1) else { return Some(insert_memory) };
            draft.op.src = src;
            Some(insert_register)
        }
        M::Pextrw => {
            draft.op.dst = draft.register(0)?;
            draft.op.src = mm_register(draft, 1)?;
            draft.op.imm = (draft.immediate(2)? & 3) * 16;
            Some(extract)
        }
        M::Pmovmskb => {
            draft.op.dst = draft.register(0)?;
            draft.op.src = mm_register(draft, 1)?;
            Some(pmovmskb)
        }
        M::Maskmovq => {
            draft.op.dst = mm_register(draft, 1)?;
            draft.op.src = mm_register(draft, 2)?;
            masked_store_target(draft);
            Some(masked_store)
        }
        _ => None,
    }
}

fn whole(draft: &mut Draft<'_>) -> Option<Handler> {
    if let Some(dst) = mm_register(draft, 0) {
        draft.op.dst = dst;
        let is_wide = draft.size(1) == 8;
        if let Some(src) = mm_register(draft, 1) {
            draft.op.src = src;
            return Some(load::<Register>);
        }
        let Some(src) = draft.register(1) else {
            return Some(if is_wide { load::<Memory8> } else { load::<Memory4> });
        };
        draft.op.src = src;
        return Some(if is_wide { from_register::<u64> } else { from_register::<u32> });
    }
    draft.op.src = mm_register(draft, 1)?;
    let is_wide = draft.size(0) == 8;
    let Some(dst) = draft.register(0) else {
        return Some(if is_wide { store::<u64> } else { store::<u32> });
    };
    draft.op.dst = dst;
    Some(if is_wide { to_register::<u64> } else { to_register::<u32> })
}

/// EMMS: all registers are empty, and the top of the stack is 0 as after every MMX instruction.
fn emms(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    control::enter_mmx(&mut cpu.fx);
    cpu.fx.tags = 0;
    at.next(cpu)
}

fn load<S: Source>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let value = attempt!(cpu, at, S::fetch(cpu, at));
    set(cpu, at.dst, value);
    at.next(cpu)
}

fn from_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let value = cpu.regs.get::<W>(at.src).zero_extend();
    set(cpu, at.dst, value);
    at.next(cpu)
}

/// Reading enters MMX state, too.
#[inline(always)]
fn read(cpu: &mut Cpu, reg: Reg) -> u64 {
    control::enter_mmx(&mut cpu.fx);
    get(cpu, reg)
}

fn store<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let value = W::truncate(get(cpu, at.src));
    attempt!(cpu, at, cpu.write(at, value));
    control::enter_mmx(&mut cpu.fx);
    at.next(cpu)
}

fn to_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let value = W::truncate(read(cpu, at.src));
    cpu.regs.set(at.dst, value);
    at.next(cpu)
}

fn to_xmm(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let value = read(cpu, at.src);
    operand::set(cpu, at.dst, xmm(value, 0));
    at.next(cpu)
}

fn from_xmm(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let [low, _] = halves(operand::get(cpu, at.src));
    set(cpu, at.dst, low);
    at.next(cpu)
}

fn insert_word(cpu: &mut Cpu, at: At, word: u16) -> Next {
    let rest = get(cpu, at.dst) & !(0xffff << at.imm);
    set(cpu, at.dst, rest | u64::from(word) << at.imm);
    at.next(cpu)
}

fn insert_register(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let word = cpu.regs.get(at.src);
    insert_word(cpu, at, word)
}

fn insert_memory(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let word = attempt!(cpu, at, cpu.read(at));
    insert_word(cpu, at, word)
}

fn extract(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let word = read(cpu, at.src) >> at.imm & 0xffff;
    cpu.regs.set(at.dst, word);
    at.next(cpu)
}

/// The top bits of the eight bytes, gathered by one multiplication.
fn pmovmskb(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let tops = read(cpu, at.src) & 0x8080_8080_8080_8080;
    cpu.regs.set(at.dst, tops.wrapping_mul(0x0002_0408_1020_4081) >> 56);
    at.next(cpu)
}

/// MASKMOVQ: bytes of `dst` whose mask in `src` has its top bit set, to where rDI points.
fn masked_store(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, wait(cpu));
    let (value, mask) = (get(cpu, at.dst).to_le_bytes(), get(cpu, at.src).to_le_bytes());
    // Also where the store then faults.
    control::enter_mmx(&mut cpu.fx);
    attempt!(cpu, at, store_masked(cpu, at, &value, &mask));
    at.next(cpu)
}
