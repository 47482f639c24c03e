//! Descriptor-table registers, and questions about descriptors and selectors: lar, lsl, verr, verw, arpl.

use iced_x86::Mnemonic as M;

use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised};
use crate::memory::access::Through;
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};
use crate::state::{Reg, Segment, Table};
use crate::width::Width;

/// The instance of a generic handler for 16, 32 or 64 bits.
macro_rules! by_bits {
    ($size:expr, $handler:ident $(, $constant:tt)?) => {
        match $size {
            2 => $handler::<u16 $(, $constant)?> as Handler,
            4 => $handler::<u32 $(, $constant)?>,
            _ => $handler::<u64 $(, $constant)?>,
        }
    };
}

pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    use iced_x86::Code as C;
    let instruction = draft.instruction;
    match instruction.mnemonic() {
        M::Lgdt | M::Lidt => {
            draft.ending = Ending::Block;
            // With a 16-bit operand size, bits 24–31 of the base are ignored.
            draft.op.imm = match instruction.code() {
                C::Lgdt_m1632_16 | C::Lidt_m1632_16 => 0xff_ffff,
                C::Lgdt_m1664 | C::Lidt_m1664 => u64::MAX,
                _ => 0xffff_ffff,
            };
            Some(if instruction.mnemonic() == M::Lgdt { load::<false> } else { load::<true> })
        }
        M::Sgdt => Some(store::<false>),
        M::Sidt => Some(store::<true>),
        M::Lldt | M::Ltr => {
            draft.ending = Ending::Block;
            draft.op.src = draft.register(0).unwrap_or(Reg::ZERO);
            let memory = draft.is_memory(0);
            Some(match (instruction.mnemonic() == M::Ltr, memory) {
                (true, true) => load_system::<true, true>,
                (true, false) => load_system::<true, false>,
                (false, true) => load_system::<false, true>,
                (false, false) => load_system::<false, false>,
            })
        }
        M::Sldt | M::Str => {
            draft.op.dst = draft.register(0).unwrap_or(Reg::ZERO);
            draft.op.imm = u64::from(instruction.mnemonic() == M::Str);
            if draft.is_memory(0) {
                return Some(store_system_memory);
            }
            Some(by_bits!(draft.size(0), store_system))
        }
        M::Lar | M::Lsl => {
            draft.op.dst = draft.register(0)?;
            draft.op.src = draft.register(1).unwrap_or(Reg::ZERO);
            draft.op.imm = u64::from(draft.is_memory(1));
            let size = draft.size(0);
            Some(match instruction.mnemonic() == M::Lsl {
                true => by_bits!(size, look, true),
                false => by_bits!(size, look, false),
            })
        }
        M::Verr | M::Verw => {
            draft.op.src = draft.register(0).unwrap_or(Reg::ZERO);
            draft.op.imm = u64::from(draft.is_memory(0));
            Some(if instruction.mnemonic() == M::Verw { verify::<true> } else { verify::<false> })
        }
        M::Arpl => {
            draft.op.src = draft.register(1)?;
            if let Some(dst) = draft.register(0) {
                draft.op.dst = dst;
                return Some(adjust_register);
            }
            Some(adjust_memory)
        }
        _ => None,
    }
}

fn load<const IDT: bool>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    let size = if cpu.mode.is_long() { 10 } else { 6 };
    let linear = attempt!(cpu, at, cpu.address(at, size, false));
    let mut bytes = [0; 10];
    let through = Through::Data;
    attempt!(cpu, at, cpu.load_bytes(linear, &mut bytes[..size as usize], through));
    let limit = u16::from_le_bytes([bytes[0], bytes[1]]);
    let mut base = [0; 8];
    base.copy_from_slice(&bytes[2..]);
    let base = u64::from_le_bytes(base) & at.imm;
    if !crate::memory::is_canonical(base) {
        return cpu.raise(at, Exception::gp(0));
    }
    *(if IDT { &mut cpu.idt } else { &mut cpu.gdt }) = Table { base, limit };
    at.end(cpu)
}

fn store<const IDT: bool>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_not_umip());
    let table = if IDT { cpu.idt } else { cpu.gdt };
    let size = if cpu.mode.is_long() { 10 } else { 6 };
    let linear = attempt!(cpu, at, cpu.address(at, size, true));
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&table.limit.to_le_bytes());
    bytes[2..].copy_from_slice(&table.base.to_le_bytes());
    attempt!(cpu, at, cpu.store_bytes(linear, &bytes[..size as usize], Through::Data));
    at.next(cpu)
}

fn load_system<const TASK: bool, const MEMORY: bool>(cpu: &mut Cpu, at: At) -> Next {
    if !cpu.mode.is_protected() {
        return cpu.raise(at, Exception::UD);
    }
    attempt!(cpu, at, cpu.demand_kernel());
    let selector: u16 = if MEMORY { attempt!(cpu, at, cpu.read(at)) } else { cpu.regs.get(at.src) };
    let loaded = if TASK { cpu.load_task(selector) } else { cpu.load_local_table(selector) };
    attempt!(cpu, at, loaded);
    at.end(cpu)
}

fn system_selector(cpu: &mut Cpu, at: At) -> Result<u16, Raised> {
    if !cpu.mode.is_protected() {
        return Err(cpu.fault(Exception::UD));
    }
    cpu.demand_not_umip()?;
    Ok(if at.imm == 1 { cpu.task.selector } else { cpu.ldt.selector })
}

fn store_system<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let selector = attempt!(cpu, at, system_selector(cpu, at));
    cpu.regs.set(at.dst, W::truncate(selector.into()));
    at.next(cpu)
}

fn store_system_memory(cpu: &mut Cpu, at: At) -> Next {
    let selector = attempt!(cpu, at, system_selector(cpu, at));
    attempt!(cpu, at, cpu.write(at, selector));
    at.next(cpu)
}

/// The descriptor of the operand, if it is there and of a kind that the question may be asked about.
fn questioned(cpu: &mut Cpu, at: At) -> Result<Option<(u64, Segment)>, Raised> {
    if !cpu.mode.is_protected() {
        return Err(cpu.fault(Exception::UD));
    }
    let selector: u16 = if at.imm == 1 { cpu.read(at)? } else { cpu.regs.get(at.src) };
    if selector & !3 == 0 {
        return Ok(None);
    }
    let table = if selector & 4 == 0 { u32::from(cpu.gdt.limit) } else { cpu.ldt.limit };
    if u32::from(selector | 7) > table || selector & 4 != 0 && !cpu.ldt.present {
        return Ok(None);
    }
    let descriptor = cpu.descriptor(selector, crate::fault::vector::GP)?;
    let segment = descriptor.segment(selector);
    let requested = selector as u8 & 3;
    let is_conforming = segment.is_user && segment.kind & 0xc == 0xc;
    if !is_conforming && segment.dpl < cpu.cpl.max(requested) {
        return Ok(None);
    }
    Ok(Some((descriptor.raw, segment)))
}

/// lsl (`LIMIT`) and lar: ZF says whether there was an answer.
fn look<W: Width, const LIMIT: bool>(cpu: &mut Cpu, at: At) -> Next {
    let found = attempt!(cpu, at, questioned(cpu, at));
    let long = cpu.is_ia32e();
    let answer = found.and_then(|(raw, segment)| {
        let known = segment.is_user
            || match segment.kind {
                2 | 9 | 11 => true,
                1 | 3 => !long,
                4 | 5 => !LIMIT && !long,
                12 => !LIMIT,
                _ => false,
            };
        let value = if LIMIT { segment.limit.into() } else { raw >> 32 & 0x00ff_ff00 };
        known.then_some(value)
    });
    if let Some(value) = answer {
        cpu.regs.set(at.dst, W::truncate(value));
    }
    cpu.flags.set_zf(answer.is_some());
    at.next(cpu)
}

fn verify<const WRITE: bool>(cpu: &mut Cpu, at: At) -> Next {
    let found = attempt!(cpu, at, questioned(cpu, at));
    let allowed = found.is_some_and(|(_, segment)| {
        let is_code = segment.kind & 8 != 0;
        let has = segment.kind & 2 != 0;
        segment.is_user && if WRITE { !is_code && has } else { !is_code || has }
    });
    cpu.flags.set_zf(allowed);
    at.next(cpu)
}

/// The selector that asks for no higher level than its giver has. `None`: it is so already.
fn adjusted(selector: u16, giver: u16) -> Option<u16> {
    const LEVEL: u16 = 3;
    (selector & LEVEL < giver & LEVEL).then_some(selector & !LEVEL | giver & LEVEL)
}

fn adjust_register(cpu: &mut Cpu, at: At) -> Next {
    if !cpu.mode.is_protected() {
        return cpu.raise(at, Exception::UD);
    }
    let changed = adjusted(cpu.regs.get(at.dst), cpu.regs.get(at.src));
    if let Some(selector) = changed {
        cpu.regs.set(at.dst, selector);
    }
    cpu.flags.set_zf(changed.is_some());
    at.next(cpu)
}

fn adjust_memory(cpu: &mut Cpu, at: At) -> Next {
    if !cpu.mode.is_protected() {
        return cpu.raise(at, Exception::UD);
    }
    let selector = attempt!(cpu, at, cpu.read(at));
    let changed = adjusted(selector, cpu.regs.get(at.src));
    if let Some(selector) = changed {
        attempt!(cpu, at, cpu.write(at, selector));
    }
    cpu.flags.set_zf(changed.is_some());
    at.next(cpu)
}
