//! Moves between XMM registers and memory, whole and in halves and scalars.
//!
//! Non-temporal moves are moves. MOVSS and MOVSD clear the rest of the register when they load it from memory, and keep it when
//! they move from another register.

use super::operand::{
    self, Aligned, Memory4, Memory8, Register16, Source, Unaligned, check_alignment, xmm_register,
};
use super::{halves, xmm};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use crate::state::Reg;
use iced_x86::Mnemonic as M;

/// The handler of an instruction of this file.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    match draft.instruction.mnemonic() {
        M::Movaps | M::Movapd | M::Movdqa | M::Movntps | M::Movntpd | M::Movntdq | M::Movntdqa => {
            choose(draft, load::<Register16>, load::<Aligned>, store_aligned)
        }
        M::Movups | M::Movupd | M::Movdqu | M::Lddqu => {
            choose(draft, load::<Register16>, load::<Unaligned>, store_unaligned)
        }
        M::Movss => choose(draft, merge_lane, load::<Memory4>, store_lane),
        M::Movsd => choose(draft, merge_low, load::<Memory8>, store_low),
        M::Movq if draft.register(0).is_none() && draft.register(1).is_none() => {
            choose(draft, load_low, load::<Memory8>, store_low)
        }
        M::Movlps | M::Movlpd => choose(draft, merge_low, load_into_low, store_low),
        M::Movhps | M::Movhpd => choose(draft, low_into_high, load_into_high, store_high),
        M::Movlhps => choose(draft, low_into_high, low_into_high, store_low),
        M::Movhlps => choose(draft, high_into_low, high_into_low, store_low),
        M::Maskmovdqu => {
            draft.op.dst = xmm_register(draft, 1)?;
            draft.op.src = xmm_register(draft, 2)?;
            super::lane::masked_store_target(draft);
            Some(masked_store)
        }
        _ => None,
    }
}

/// Picks among register to register, memory to register and register to memory.
fn choose(
    draft: &mut Draft<'_>,
    moving: Handler,
    loading: Handler,
    storing: Handler,
) -> Option<Handler> {
    let Some(dst) = xmm_register(draft, 0) else {
        draft.op.src = xmm_register(draft, 1)?;
        return Some(storing);
    };
    draft.op.dst = dst;
    match xmm_register(draft, 1) {
        Some(src) => {
            draft.op.src = src;
            Some(moving)
        }
        None => Some(loading),
    }
}

fn load<S: Source>(cpu: &mut Cpu, at: At) -> Next {
    let value = attempt!(cpu, at, S::fetch(cpu, at));
    operand::set(cpu, at.dst, value);
    at.next(cpu)
}

fn store_aligned(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, check_alignment(cpu, at, true));
    store_unaligned(cpu, at)
}

fn store_unaligned(cpu: &mut Cpu, at: At) -> Next {
    let value = operand::bits(operand::get(cpu, at.src));
    attempt!(cpu, at, cpu.write_u128(at, value));
    at.next(cpu)
}

#[inline(always)]
fn get(cpu: &Cpu, reg: Reg) -> [u64; 2] {
    halves(operand::get(cpu, reg))
}

#[inline(always)]
fn put(cpu: &mut Cpu, at: At, low: u64, high: u64) -> Next {
    operand::set(cpu, at.dst, xmm(low, high));
    at.next(cpu)
}

fn merge_lane(cpu: &mut Cpu, at: At) -> Next {
    let ([low, high], [lane, _]) = (get(cpu, at.dst), get(cpu, at.src));
    put(cpu, at, low & !0xffff_ffff | lane & 0xffff_ffff, high)
}

fn store_lane(cpu: &mut Cpu, at: At) -> Next {
    let [low, _] = get(cpu, at.src);
    attempt!(cpu, at, cpu.write(at, low as u32));
    at.next(cpu)
}

fn merge_low(cpu: &mut Cpu, at: At) -> Next {
    let ([_, high], [low, _]) = (get(cpu, at.dst), get(cpu, at.src));
    put(cpu, at, low, high)
}

fn load_low(cpu: &mut Cpu, at: At) -> Next {
    let [low, _] = get(cpu, at.src);
    put(cpu, at, low, 0)
}

fn store_low(cpu: &mut Cpu, at: At) -> Next {
    let [low, _] = get(cpu, at.src);
    attempt!(cpu, at, cpu.write(at, low));
    at.next(cpu)
}

fn store_high(cpu: &mut Cpu, at: At) -> Next {
    let [_, high] = get(cpu, at.src);
    attempt!(cpu, at, cpu.write(at, high));
    at.next(cpu)
}

fn load_into_low(cpu: &mut Cpu, at: At) -> Next {
    let low = attempt!(cpu, at, cpu.read(at));
    let [_, high] = get(cpu, at.dst);
    put(cpu, at, low, high)
}

fn load_into_high(cpu: &mut Cpu, at: At) -> Next {
    let high = attempt!(cpu, at, cpu.read(at));
    let [low, _] = get(cpu, at.dst);
    put(cpu, at, low, high)
}

fn low_into_high(cpu: &mut Cpu, at: At) -> Next {
    let ([low, _], [high, _]) = (get(cpu, at.dst), get(cpu, at.src));
    put(cpu, at, low, high)
}

fn high_into_low(cpu: &mut Cpu, at: At) -> Next {
    let ([_, high], [_, low]) = (get(cpu, at.dst), get(cpu, at.src));
    put(cpu, at, low, high)
}

/// MASKMOVDQU: bytes of `dst` whose mask in `src` has its top bit set, to where rDI points.
fn masked_store(cpu: &mut Cpu, at: At) -> Next {
    let value = operand::bits(operand::get(cpu, at.dst)).to_le_bytes();
    let mask = operand::bits(operand::get(cpu, at.src)).to_le_bytes();
    attempt!(cpu, at, super::lane::store_masked(cpu, at, &value, &mask));
    at.next(cpu)
}
