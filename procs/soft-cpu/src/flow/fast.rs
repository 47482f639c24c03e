//! syscall, sysret, sysenter, sysexit: changes of privilege level that look at no descriptor.

use iced_x86::Mnemonic as M;

use crate::cpu::Cpu;
use crate::fault::Exception;
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};
use crate::state::{Reg, Segment, SegmentName, efer, rflags};

/// Names the handler.
pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.ending = Ending::Block;
    Some(match draft.instruction.mnemonic() {
        M::Syscall => syscall,
        M::Sysret => sysret::<false>,
        M::Sysretq => sysret::<true>,
        M::Sysenter => sysenter,
        M::Sysexit => sysexit::<false>,
        M::Sysexitq => sysexit::<true>,
        _ => return None,
    })
}

/// A flat code segment, as the fast instructions load without looking at a descriptor.
fn flat_code(selector: u16, dpl: u8, long: bool) -> Segment {
    Segment {
        selector,
        limit: u32::MAX,
        kind: 0xb,
        is_user: true,
        dpl,
        present: true,
        long,
        big: !long,
        pages: true,
        ..Segment::default()
    }
}

fn flat_stack(selector: u16, dpl: u8) -> Segment {
    Segment { kind: 3, long: false, big: true, ..flat_code(selector, dpl, false) }
}

fn syscall(cpu: &mut Cpu, at: At) -> Next {
    // As on Intel's processors: only from 64-bit code.
    if cpu.control.efer & efer::SCE == 0 || !cpu.mode.is_long() {
        return cpu.raise(at, Exception::UD);
    }
    let back = cpu.rip_after(at);
    cpu.regs.set(Reg::RCX, back);
    cpu.regs.set(Reg::R11, cpu.rflags() & !rflags::RF);
    let selector = (cpu.msrs.star >> 32) as u16 & !3;
    let (target, mask) = (cpu.msrs.lstar, cpu.msrs.sfmask);
    cpu.set_rflags(cpu.rflags() & !mask & !rflags::RF);
    cpu.segments[SegmentName::Ss as usize] = flat_stack(selector.wrapping_add(8), 0);
    cpu.set_code(flat_code(selector, 0, true), 0, target);
    Next::LOOKUP
}

fn sysret<const LONG: bool>(cpu: &mut Cpu, at: At) -> Next {
    if cpu.control.efer & efer::SCE == 0 || !cpu.mode.is_long() {
        return cpu.raise(at, Exception::UD);
    }
    let target: u64 = cpu.regs.get(Reg::RCX);
    if cpu.cpl != 0 || LONG && !crate::memory::is_canonical(target) {
        return cpu.raise(at, Exception::gp(0));
    }
    let base = (cpu.msrs.star >> 48) as u16;
    let selector = if LONG { base.wrapping_add(16) } else { base } | 3;
    let flags: u64 = cpu.regs.get(Reg::R11);
    cpu.set_rflags(flags & 0x3c_7fd7 | rflags::FIXED);
    cpu.segments[SegmentName::Ss as usize] = flat_stack(base.wrapping_add(8) | 3, 3);
    let target = if LONG { target } else { target & 0xffff_ffff };
    cpu.set_code(flat_code(selector, 3, LONG), 3, target);
    Next::LOOKUP
}

fn sysenter(cpu: &mut Cpu, at: At) -> Next {
    let selector = cpu.msrs.sysenter_cs as u16 & !3;
    if !cpu.mode.is_protected() || selector == 0 {
        return cpu.raise(at, Exception::gp(0));
    }
    let long = cpu.is_ia32e();
    let (target, pointer) = (cpu.msrs.sysenter_eip, cpu.msrs.sysenter_esp);
    cpu.set_rflags(cpu.rflags() & !(rflags::IF | rflags::VM | rflags::RF));
    cpu.segments[SegmentName::Ss as usize] = flat_stack(selector.wrapping_add(8), 0);
    cpu.set_code(flat_code(selector, 0, long), 0, target);
    cpu.regs.set(Reg::RSP, pointer);
    Next::LOOKUP
}

fn sysexit<const LONG: bool>(cpu: &mut Cpu, at: At) -> Next {
    let base = cpu.msrs.sysenter_cs as u16 & !3;
    if !cpu.mode.is_protected() || base == 0 || cpu.cpl != 0 {
        return cpu.raise(at, Exception::gp(0));
    }
    let (target, pointer): (u64, u64) = (cpu.regs.get(Reg::RDX), cpu.regs.get(Reg::RCX));
    let is_canonical = crate::memory::is_canonical;
    if LONG && !(is_canonical(target) && is_canonical(pointer)) {
        return cpu.raise(at, Exception::gp(0));
    }
    let mask = if LONG { u64::MAX } else { 0xffff_ffff };
    let selector = base.wrapping_add(if LONG { 32 } else { 16 }) | 3;
    cpu.segments[SegmentName::Ss as usize] = flat_stack(selector.wrapping_add(8), 3);
    cpu.set_code(flat_code(selector, 3, LONG), 3, target & mask);
    cpu.regs.set(Reg::RSP, pointer & mask);
    Next::LOOKUP
}
