//! mov, movzx, movsx, lea, xchg, xlat.

use iced_x86::OpKind;

use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{AddressSize, At, Handler, Next};
use crate::select::Draft;
use crate::state::Reg;
use crate::width::Width;

/// The instance of a generic handler for an operand of `$size` bytes.
macro_rules! by_size {
    ($size:expr, $handler:ident) => {
        match $size {
            1 => $handler::<u8> as Handler,
            2 => $handler::<u16>,
            4 => $handler::<u32>,
            8 => $handler::<u64>,
            _ => return None,
        }
    };
}
pub(super) use by_size;

/// General registers, memory and immediates; segment, control and debug registers are `system`'s.
pub(super) fn mov(draft: &mut Draft<'_>) -> Option<Handler> {
    let size = draft.size(0);
    let source_is_register = draft.is_register(1);
    if let Some(dst) = draft.register(0) {
        draft.op.dst = dst;
        if let Some(src) = draft.register(1) {
            draft.op.src = src;
            return Some(by_size!(size, register_register));
        }
        if draft.is_memory(1) {
            return Some(by_size!(size, register_memory));
        }
        draft.op.imm = draft.immediate(1)?;
        return Some(by_size!(size, register_immediate));
    }
    if !draft.is_memory(0) {
        return None;
    }
    if source_is_register {
        draft.op.src = draft.register(1)?;
        return Some(by_size!(draft.size(1), memory_register));
    }
    draft.op.imm = draft.immediate(1)?;
    Some(by_size!(size, memory_immediate))
}

fn register_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = cpu.regs.get(at.src);
    cpu.regs.set(at.dst, value);
    at.next(cpu)
}

fn register_immediate<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    cpu.regs.set(at.dst, W::truncate(at.imm));
    at.next(cpu)
}

fn register_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value = attempt!(cpu, at, cpu.read::<W>(at));
    cpu.regs.set(at.dst, value);
    at.next(cpu)
}

fn memory_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = cpu.regs.get(at.src);
    attempt!(cpu, at, cpu.write(at, value));
    at.next(cpu)
}

fn memory_immediate<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.write(at, W::truncate(at.imm)));
    at.next(cpu)
}

/// movzx and movsx.
pub(super) fn extend<const SIGNED: bool>(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = draft.register(0)?;
    let (to, from) = (draft.size(0), draft.size(1));
    if let Some(src) = draft.register(1) {
        draft.op.src = src;
        return Some(match (from, to) {
            (1, 2) => extend_register::<u8, u16, SIGNED>,
            (1, 4) => extend_register::<u8, u32, SIGNED>,
            (1, 8) => extend_register::<u8, u64, SIGNED>,
            (2, 2) => extend_register::<u16, u16, SIGNED>,
            (2, 4) => extend_register::<u16, u32, SIGNED>,
            (2, 8) => extend_register::<u16, u64, SIGNED>,
            (4, 4) => extend_register::<u32, u32, SIGNED>,
            (4, 8) => extend_register::<u32, u64, SIGNED>,
            (4, 2) => extend_register::<u16, u16, SIGNED>,
            _ => return None,
        });
    }
    Some(match (from, to) {
        (1, 2) => extend_memory::<u8, u16, SIGNED>,
        (1, 4) => extend_memory::<u8, u32, SIGNED>,
        (1, 8) => extend_memory::<u8, u64, SIGNED>,
        (2, 2) => extend_memory::<u16, u16, SIGNED>,
        (2, 4) => extend_memory::<u16, u32, SIGNED>,
        (2, 8) => extend_memory::<u16, u64, SIGNED>,
        (4, 4) => extend_memory::<u32, u32, SIGNED>,
        (4, 8) => extend_memory::<u32, u64, SIGNED>,
        _ => return None,
    })
}

#[inline(always)]
fn extended<F: Width, T: Width, const SIGNED: bool>(value: F) -> T {
    T::truncate(if SIGNED { value.sign_extend() } else { value.zero_extend() })
}

fn extend_register<F: Width, T: Width, const SIGNED: bool>(cpu: &mut Cpu, at: At) -> Next {
    let value: F = cpu.regs.get(at.src);
    cpu.regs.set(at.dst, extended::<F, T, SIGNED>(value));
    at.next(cpu)
}

fn extend_memory<F: Width, T: Width, const SIGNED: bool>(cpu: &mut Cpu, at: At) -> Next {
    let value = attempt!(cpu, at, cpu.read::<F>(at));
    cpu.regs.set(at.dst, extended::<F, T, SIGNED>(value));
    at.next(cpu)
}

pub(super) fn lea(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = draft.register(0)?;
    draft.op.imm = match draft.op.shape.size() {
        AddressSize::Bits64 => u64::MAX,
        AddressSize::Bits32 => 0xffff_ffff,
        AddressSize::Bits16 => 0xffff,
    };
    Some(by_size!(draft.size(0), load_address))
}

fn load_address<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let offset = cpu.offset(at) & at.imm;
    cpu.regs.set(at.dst, W::truncate(offset));
    at.next(cpu)
}

/// xchg between registers. With memory it is locked, and `alu`'s.
pub(super) fn exchange(draft: &mut Draft<'_>) -> Option<Handler> {
    if draft.instruction.op_kind(0) != OpKind::Register || draft.is_memory(1) {
        return None;
    }
    (draft.op.dst, draft.op.src) = (draft.register(0)?, draft.register(1)?);
    Some(by_size!(draft.size(0), exchange_registers))
}

fn exchange_registers<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let (first, second): (W, W) = (cpu.regs.get(at.dst), cpu.regs.get(at.src));
    cpu.regs.set(at.dst, second);
    cpu.regs.set(at.src, first);
    at.next(cpu)
}

pub(super) fn translate(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.base = Reg::RBX;
    draft.op.imm = match draft.instruction.memory_base().size() {
        8 => u64::MAX,
        4 => 0xffff_ffff,
        _ => 0xffff,
    };
    let segment = crate::select::segment(draft.instruction.memory_segment())?;
    draft.op.src = Reg(segment as u8);
    Some(translate_byte)
}

fn translate_byte(cpu: &mut Cpu, at: At) -> Next {
    let base: u64 = cpu.regs.get(Reg::RBX);
    let index: u8 = cpu.regs.get(Reg::RAX);
    let offset = base.wrapping_add(index.into()) & at.imm;
    let linear = attempt!(cpu, at, cpu.segment_address(at.src.0, offset, 1, false));
    let value: u8 = attempt!(cpu, at, cpu.load(linear, crate::memory::access::Through::Data));
    cpu.regs.set(Reg::RAX, value);
    at.next(cpu)
}
