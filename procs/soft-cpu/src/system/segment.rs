//! Loading segment registers (Intel SDM volume 2, MOV and POP; volume 3, 5.4 to 5.7).

use iced_x86::Mnemonic as M;

use super::descriptor::selector_code;
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, vector};
use crate::memory::access::Through;
use crate::op::{At, Handler, Next};
use crate::select::{self, Draft, Ending};
use crate::state::{Reg, Segment, SegmentName};
use crate::width::Width;

impl Cpu {
    /// Loads any segment register but CS.
    pub(crate) fn load_segment(&mut self, name: SegmentName, selector: u16) -> Result<(), Raised> {
        let segment = if !self.mode.is_protected() {
            let old = self.segments[name as usize];
            Segment { selector, base: u64::from(selector) << 4, ..old }
        } else if selector & !3 == 0 {
            self.null_segment(name, selector)?
        } else {
            self.protected_segment(name, selector)?
        };
        self.segments[name as usize] = segment;
        self.refresh();
        Ok(())
    }

    fn null_segment(&mut self, name: SegmentName, selector: u16) -> Result<Segment, Raised> {
        let allowed = name != SegmentName::Ss
            || self.mode.is_long() && self.cpl < 3 && selector as u8 & 3 == self.cpl;
        if !allowed {
            return Err(self.fault(Exception::gp(0)));
        }
        let is_stack = name == SegmentName::Ss;
        // The base stays, as on Intel's processors of today it does not: it is zero.
        Ok(Segment { selector, dpl: if is_stack { self.cpl } else { 0 }, ..Segment::default() })
    }

    fn protected_segment(&mut self, name: SegmentName, selector: u16) -> Result<Segment, Raised> {
        let code = selector_code(selector);
        let descriptor = self.descriptor(selector, vector::GP)?;
        let segment = descriptor.segment(selector);
        let requested = selector as u8 & 3;
        let is_writable = segment.is_user && segment.kind & 0xa == 2;
        let (allowed, absent) = if name == SegmentName::Ss {
            let level = requested == self.cpl && segment.dpl == self.cpl;
            (is_writable && level, vector::SS)
        } else {
            let is_readable = segment.is_user && (segment.kind & 8 == 0 || segment.kind & 2 != 0);
            let is_conforming = segment.kind & 0xc == 0xc;
            let level = is_conforming || segment.dpl >= self.cpl.max(requested);
            (is_readable && level, vector::NP)
        };
        if !allowed {
            return Err(self.fault(Exception::gp(code)));
        }
        if !segment.present {
            return Err(self.fault(Exception::with_code(absent, code)));
        }
        self.mark_accessed(descriptor)?;
        Ok(segment)
    }

    /// Loads SS for a change of privilege level: `cpl` is the new one, `fault` what a bad one is.
    pub(crate) fn stack_segment(
        &mut self,
        selector: u16,
        cpl: u8,
        fault: u8,
    ) -> Result<Segment, Raised> {
        let code = selector_code(selector);
        if selector & !3 == 0 {
            return Err(self.fault(Exception::with_code(fault, 0)));
        }
        let descriptor = self.descriptor(selector, fault)?;
        let segment = descriptor.segment(selector);
        let is_writable = segment.is_user && segment.kind & 0xa == 2;
        if !is_writable || segment.dpl != cpl || selector as u8 & 3 != cpl {
            return Err(self.fault(Exception::with_code(fault, code)));
        }
        if !segment.present {
            return Err(self.fault(Exception::with_code(vector::SS, code)));
        }
        self.mark_accessed(descriptor)?;
        Ok(segment)
    }

    /// CS for a transfer to `selector` at level `cpl`, which the caller has checked; RIP follows.
    pub(crate) fn set_code(&mut self, mut segment: Segment, cpl: u8, rip: u64) {
        let old = self.segments[SegmentName::Cs as usize];
        segment.selector = segment.selector & !3 | u16::from(cpl);
        if (old.base, old.limit) != (segment.base, segment.limit) {
            self.blocks.drop_all_links();
        }
        self.segments[SegmentName::Cs as usize] = segment;
        self.cpl = cpl;
        self.refresh();
        self.set_rip(rip);
    }
}

/// mov, push and pop of segment registers, lds and its like.
pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    let instruction = draft.instruction;
    match instruction.mnemonic() {
        M::Mov => {
            if let Some(name) = select::segment(instruction.op_register(0)) {
                draft.op.dst = Reg(name as u8);
                draft.ending = Ending::Block;
                return match draft.register(1) {
                    _ if name == SegmentName::Cs => None,
                    Some(src) => {
                        draft.op.src = src;
                        Some(load_from_register)
                    }
                    None => Some(load_from_memory),
                };
            }
            let name = select::segment(instruction.op_register(1))?;
            draft.op.src = Reg(name as u8);
            match draft.register(0) {
                Some(dst) => {
                    draft.op.dst = dst;
                    Some(match draft.size(0) {
                        2 => store_in_register::<u16>,
                        4 => store_in_register::<u32>,
                        _ => store_in_register::<u64>,
                    })
                }
                None => Some(store_in_memory),
            }
        }
        M::Push => {
            draft.op.src = Reg(select::segment(instruction.op_register(0))? as u8);
            Some(match instruction.stack_pointer_increment() {
                -2 => push::<u16>,
                -4 => push_half,
                _ => push::<u64>,
            })
        }
        M::Pop => {
            draft.op.dst = Reg(select::segment(instruction.op_register(0))? as u8);
            draft.ending = Ending::Block;
            Some(match instruction.stack_pointer_increment() {
                2 => pop::<u16>,
                4 => pop::<u32>,
                _ => pop::<u64>,
            })
        }
        M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss => {
            let name = match instruction.mnemonic() {
                M::Lds => SegmentName::Ds,
                M::Les => SegmentName::Es,
                M::Lfs => SegmentName::Fs,
                M::Lgs => SegmentName::Gs,
                _ => SegmentName::Ss,
            };
            (draft.op.dst, draft.op.src) = (draft.register(0)?, Reg(name as u8));
            draft.ending = Ending::Block;
            Some(match draft.size(0) {
                2 => load_far::<u16>,
                4 => load_far::<u32>,
                _ => load_far::<u64>,
            })
        }
        _ => None,
    }
}

fn name(reg: Reg) -> SegmentName {
    SegmentName::ALL[usize::from(reg.0 % 6)]
}

/// Interrupts wait one instruction after a load of SS.
fn loaded(cpu: &mut Cpu, at: At, name: SegmentName) -> Next {
    if name == SegmentName::Ss {
        (cpu.shadow, cpu.holds_traps) = (true, true);
    }
    at.end(cpu)
}

fn load_from_register(cpu: &mut Cpu, at: At) -> Next {
    let selector: u16 = cpu.regs.get(at.src);
    attempt!(cpu, at, cpu.load_segment(name(at.dst), selector));
    loaded(cpu, at, name(at.dst))
}

fn load_from_memory(cpu: &mut Cpu, at: At) -> Next {
    let selector: u16 = attempt!(cpu, at, cpu.read(at));
    attempt!(cpu, at, cpu.load_segment(name(at.dst), selector));
    loaded(cpu, at, name(at.dst))
}

fn store_in_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let selector = cpu.segments[usize::from(at.src.0 % 6)].selector;
    cpu.regs.set(at.dst, W::truncate(selector.into()));
    at.next(cpu)
}

fn store_in_memory(cpu: &mut Cpu, at: At) -> Next {
    let selector = cpu.segments[usize::from(at.src.0 % 6)].selector;
    attempt!(cpu, at, cpu.write(at, selector));
    at.next(cpu)
}

fn push<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let selector = cpu.segments[usize::from(at.src.0 % 6)].selector;
    attempt!(cpu, at, cpu.push(W::truncate(selector.into())));
    at.next(cpu)
}

/// Four bytes of which, as on Intel's processors, only the lower two are written.
fn push_half(cpu: &mut Cpu, at: At) -> Next {
    let selector = cpu.segments[usize::from(at.src.0 % 6)].selector;
    // The way to the lower two: two bytes below what is left of the upper two.
    let mut pointer = cpu.stack_pointer().wrapping_sub(2);
    attempt!(cpu, at, cpu.push_below(&mut pointer, selector));
    cpu.set_stack_pointer(pointer);
    at.next(cpu)
}

fn pop<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let selector: W = attempt!(cpu, at, cpu.top());
    let before = cpu.stack_pointer();
    attempt!(cpu, at, cpu.load_segment(name(at.dst), selector.zero_extend() as u16));
    cpu.set_stack_pointer(before.wrapping_add(W::BYTES as u64));
    loaded(cpu, at, name(at.dst))
}

fn load_far<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let linear = attempt!(cpu, at, cpu.address(at, W::BYTES as u32 + 2, false));
    let offset: W = attempt!(cpu, at, cpu.load(linear, Through::Data));
    let behind = linear.wrapping_add(W::BYTES as u64);
    let selector: u16 = attempt!(cpu, at, cpu.load(behind, Through::Data));
    attempt!(cpu, at, cpu.load_segment(name(at.src), selector));
    cpu.regs.set(at.dst, offset);
    loaded(cpu, at, name(at.src))
}
