//! Far jumps, calls and returns, and `iret` (Intel SDM volume 2; volume 3, 5.8).
//!
//! Absent: call gates, task gates and returns to virtual-8086 mode, which are #GP.

use iced_x86::{Code, Mnemonic as M, OpKind};

use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, vector};
use crate::memory::access::Through;
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};
use crate::state::{Segment, SegmentName, rflags};
use crate::system::selector_code;
use crate::width::Width;

/// What a far transfer goes to.
#[derive(Debug, Clone, Copy)]
struct Target {
    selector: u16,
    offset: u64,
}

/// `imm`: offset of a direct target, `displacement`: its selector.
pub(super) fn jump(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.ending = Ending::Block;
    let is_call = draft.instruction.mnemonic() == M::Call;
    let kind = draft.instruction.op_kind(0);
    if matches!(kind, OpKind::FarBranch16 | OpKind::FarBranch32) {
        let short = kind == OpKind::FarBranch16;
        draft.op.imm = if short {
            draft.instruction.far_branch16().into()
        } else {
            draft.instruction.far_branch32().into()
        };
        draft.op.displacement = draft.instruction.far_branch_selector().into();
        return Some(match (is_call, short) {
            (false, _) => jump_direct,
            (true, true) => call_direct::<u16>,
            (true, false) => call_direct::<u32>,
        });
    }
    Some(match (draft.instruction.code(), is_call) {
        (Code::Jmp_m1616, _) => jump_memory::<u16>,
        (Code::Jmp_m1632, _) => jump_memory::<u32>,
        (Code::Jmp_m1664, _) => jump_memory::<u64>,
        (Code::Call_m1616, _) => call_memory::<u16>,
        (Code::Call_m1632, _) => call_memory::<u32>,
        (Code::Call_m1664, _) => call_memory::<u64>,
        _ => return None,
    })
}

fn memory_target<W: Width>(cpu: &mut Cpu, at: At) -> Result<Target, Raised> {
    let linear = cpu.address(at, W::BYTES as u32 + 2, false)?;
    let offset: W = cpu.load(linear, Through::Data)?;
    let selector = cpu.load(linear.wrapping_add(W::BYTES as u64), Through::Data)?;
    Ok(Target { selector, offset: offset.zero_extend() })
}

fn direct_target(at: At) -> Target {
    Target { selector: at.displacement as u16, offset: at.imm }
}

fn jump_direct(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.jump_far(direct_target(at)));
    Next::LOOKUP
}

fn jump_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let target = attempt!(cpu, at, memory_target::<W>(cpu, at));
    attempt!(cpu, at, cpu.jump_far(target));
    Next::LOOKUP
}

fn call_direct<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    call(cpu, at, direct_target(at), push_return::<W>)
}

fn call_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let target = attempt!(cpu, at, memory_target::<W>(cpu, at));
    call(cpu, at, target, push_return::<W>)
}

type Push = fn(&mut Cpu, u64, u16, u64) -> Result<u64, Raised>;

fn push_return<W: Width>(
    cpu: &mut Cpu,
    mut pointer: u64,
    selector: u16,
    rip: u64,
) -> Result<u64, Raised> {
    cpu.push_below(&mut pointer, W::truncate(selector.into()))?;
    cpu.push_below(&mut pointer, W::truncate(rip))?;
    Ok(pointer)
}

fn call(cpu: &mut Cpu, at: At, target: Target, push: Push) -> Next {
    let (back, selector) = (cpu.rip_after(at), cpu.segments[1].selector);
    let segment = attempt!(cpu, at, cpu.far_code(target));
    let pointer = cpu.stack_pointer();
    let pointer = attempt!(cpu, at, push(cpu, pointer, selector, back));
    cpu.set_stack_pointer(pointer);
    cpu.enter_code(segment, target.offset);
    Next::LOOKUP
}

impl Cpu {
    /// Checks a code segment for a jump or call at the present level.
    fn far_code(&mut self, target: Target) -> Result<Segment, Raised> {
        let Target { selector, offset } = target;
        if !self.mode.is_protected() {
            if offset > u64::from(self.segments[1].limit) {
                return Err(self.fault(Exception::gp(0)));
            }
            return Ok(Segment { selector, base: u64::from(selector) << 4, ..self.segments[1] });
        }
        if selector & !3 == 0 {
            return Err(self.fault(Exception::gp(0)));
        }
        let code = selector_code(selector);
        let descriptor = self.descriptor(selector, vector::GP)?;
        let segment = descriptor.segment(selector);
        let level = if segment.kind & 4 != 0 {
            segment.dpl <= self.cpl
        } else {
            segment.dpl == self.cpl && selector as u8 & 3 <= self.cpl
        };
        if !segment.is_code() || !level || self.is_ia32e() && segment.long && segment.big {
            return Err(self.fault(Exception::gp(code)));
        }
        if !segment.present {
            return Err(self.fault(Exception::with_code(vector::NP, code)));
        }
        self.check_target(&segment, offset)?;
        self.mark_accessed(descriptor)?;
        Ok(segment)
    }

    /// Whether a code segment has the byte to go on with.
    fn check_target(&mut self, segment: &Segment, offset: u64) -> Result<(), Raised> {
        let allowed = if self.is_ia32e() && segment.long {
            crate::memory::is_canonical(offset)
        } else {
            offset <= u64::from(segment.limit)
        };
        if allowed { Ok(()) } else { Err(self.fault(Exception::gp(0))) }
    }

    fn enter_code(&mut self, segment: Segment, rip: u64) {
        if self.mode.is_protected() {
            self.set_code(segment, self.cpl, rip);
        } else {
            self.set_real_code(segment, rip);
        }
    }

    fn jump_far(&mut self, target: Target) -> Result<(), Raised> {
        let segment = self.far_code(target)?;
        self.enter_code(segment, target.offset);
        Ok(())
    }
}

/// `imm`: bytes of arguments to drop.
pub(super) fn ret(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.ending = Ending::Block;
    draft.op.imm = if draft.instruction.op_count() == 1 { draft.immediate(0)? & 0xffff } else { 0 };
    Some(match draft.instruction.code() {
        Code::Retfw | Code::Retfw_imm16 => return_far::<u16>,
        Code::Retfd | Code::Retfd_imm16 => return_far::<u32>,
        _ => return_far::<u64>,
    })
}

/// A return's code segment and whether it leaves the privilege level.
struct Way {
    code: Segment,
    cpl: u8,
}

impl Cpu {
    /// Checks the code segment of a return.
    fn return_code(&mut self, target: Target) -> Result<Way, Raised> {
        let Target { selector, offset } = target;
        let cpl = selector as u8 & 3;
        let code = selector_code(selector);
        if selector & !3 == 0 {
            return Err(self.fault(Exception::gp(0)));
        }
        let descriptor = self.descriptor(selector, vector::GP)?;
        let segment = descriptor.segment(selector);
        let level = if segment.kind & 4 != 0 { segment.dpl <= cpl } else { segment.dpl == cpl };
        if !segment.is_code() || cpl < self.cpl || !level {
            return Err(self.fault(Exception::gp(code)));
        }
        if !segment.present {
            return Err(self.fault(Exception::with_code(vector::NP, code)));
        }
        self.check_target(&segment, offset)?;
        self.mark_accessed(descriptor)?;
        Ok(Way { code: segment, cpl })
    }

    /// SS for a return to level `cpl`; null is allowed to 64-bit code outside level 3.
    fn return_stack(&mut self, selector: u16, way: &Way) -> Result<Segment, Raised> {
        let to_long = self.is_ia32e() && way.code.long;
        if selector & !3 == 0 && to_long && way.cpl != 3 && selector as u8 & 3 == way.cpl {
            return Ok(Segment { selector, dpl: way.cpl, ..Segment::default() });
        }
        self.stack_segment(selector, way.cpl, vector::GP)
    }

    /// Data segments that the outer level may not have become null.
    fn drop_inner_segments(&mut self) {
        for name in [SegmentName::Es, SegmentName::Ds, SegmentName::Fs, SegmentName::Gs] {
            let segment = &mut self.segments[name as usize];
            let is_bound = segment.kind & 0xc != 0xc;
            if segment.present && segment.dpl < self.cpl && is_bound {
                *segment = Segment::default();
            }
        }
        self.refresh();
    }
}

fn return_far<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let mut pointer = cpu.stack_pointer();
    let offset: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
    let selector: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
    let target = Target { selector: selector.zero_extend() as u16, offset: offset.zero_extend() };
    if !cpu.mode.is_protected() {
        let segment = attempt!(cpu, at, cpu.far_code(target));
        cpu.set_stack_pointer(pointer.wrapping_add(at.imm));
        cpu.set_real_code(segment, target.offset);
        return Next::LOOKUP;
    }
    let way = attempt!(cpu, at, cpu.return_code(target));
    let mut pointer = pointer.wrapping_add(at.imm);
    if way.cpl == cpu.cpl {
        cpu.set_stack_pointer(pointer);
        cpu.set_code(way.code, way.cpl, target.offset);
        return Next::LOOKUP;
    }
    let outer: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
    let selector: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
    let stack = attempt!(cpu, at, cpu.return_stack(selector.zero_extend() as u16, &way));
    cpu.segments[SegmentName::Ss as usize] = stack;
    cpu.set_code(way.code, way.cpl, target.offset);
    cpu.set_stack_pointer(outer.zero_extend().wrapping_add(at.imm));
    cpu.drop_inner_segments();
    Next::LOOKUP
}

pub(super) fn interrupt_return(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.ending = Ending::Block;
    Some(match draft.instruction.mnemonic() {
        M::Iret => iret::<u16>,
        M::Iretd => iret::<u32>,
        _ => iret::<u64>,
    })
}

fn iret<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    cpu.nmi_blocked = false;
    if cpu.mode.is_protected() && cpu.system_flags & rflags::NT != 0 {
        // A return to another task, by hardware: absent.
        return cpu.raise(at, Exception::gp(0));
    }
    let mut pointer = cpu.stack_pointer();
    let offset: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
    let selector: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
    let flags: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
    let target = Target { selector: selector.zero_extend() as u16, offset: offset.zero_extend() };
    let flags = flags.zero_extend();
    if !cpu.mode.is_protected() {
        let segment = attempt!(cpu, at, cpu.far_code(target));
        cpu.set_stack_pointer(pointer);
        cpu.set_real_code(segment, target.offset);
        cpu.load_flags(flags, W::BYTES as u32);
        return Next::LOOKUP;
    }
    if flags & rflags::VM != 0 && cpu.cpl == 0 && !cpu.is_ia32e() && W::BYTES == 4 {
        // To virtual-8086 mode: absent.
        return cpu.raise(at, Exception::gp(0));
    }
    let way = attempt!(cpu, at, cpu.return_code(target));
    let changes = way.cpl != cpu.cpl;
    if changes || cpu.mode.is_long() {
        let outer: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
        let selector: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
        let stack = attempt!(cpu, at, cpu.return_stack(selector.zero_extend() as u16, &way));
        cpu.load_flags_for_return(flags, W::BYTES as u32);
        cpu.segments[SegmentName::Ss as usize] = stack;
        cpu.set_code(way.code, way.cpl, target.offset);
        cpu.set_stack_pointer(outer.zero_extend());
        if changes {
            cpu.drop_inner_segments();
        }
        return Next::LOOKUP;
    }
    cpu.load_flags_for_return(flags, W::BYTES as u32);
    cpu.set_stack_pointer(pointer);
    cpu.set_code(way.code, way.cpl, target.offset);
    Next::LOOKUP
}

impl Cpu {
    /// As [`load_flags`](Self::load_flags), and RF, which only `iret` loads. It lasts one instruction and
    /// only hides breakpoints: without them it need not be there.
    fn load_flags_for_return(&mut self, flags: u64, size: u32) {
        self.load_flags(flags, size);
        if size > 2 && self.breaks_on_code() {
            self.system_flags |= flags & rflags::RF;
        }
    }
}

/// Interrupts by instruction. `imm` is the vector.
pub(super) fn interrupt(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.ending = Ending::Block;
    if draft.instruction.mnemonic() == M::Int1 {
        return Some(int1);
    }
    draft.op.imm = match draft.instruction.mnemonic() {
        M::Int3 => u64::from(vector::BP),
        M::Into => u64::from(vector::OF),
        _ => draft.immediate(0)? & 0xff,
    };
    Some(if draft.instruction.mnemonic() == M::Into { into } else { int })
}

fn int(cpu: &mut Cpu, at: At) -> Next {
    cpu.stop = crate::fault::Stop::Software(at.imm as u8);
    // A fault on the way is the instruction's: RIP stays, and its length goes along.
    cpu.software_len = at.len;
    let rip = cpu.rip_at(at);
    cpu.set_rip(rip);
    Next::LOOKUP
}

/// A debug trap, as the processor's own are: whoever may use its gate.
fn int1(cpu: &mut Cpu, at: At) -> Next {
    cpu.stop = crate::fault::Stop::Trap(Exception::plain(vector::DB));
    at.end(cpu)
}

fn into(cpu: &mut Cpu, at: At) -> Next {
    if cpu.flags.of() { int(cpu, at) } else { at.end(cpu) }
}

/// bound: #BR outside the bounds.
pub(super) fn bound(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.dst = draft.register(0)?;
    Some(if draft.size(0) == 2 { check_bound::<u16> } else { check_bound::<u32> })
}

fn check_bound<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let low: W = attempt!(cpu, at, cpu.read(at));
    let index = cpu.regs.get::<W>(at.dst).sign_extend() as i64;
    // The upper bound is not even read where the lower one settles it.
    if index < low.sign_extend() as i64 {
        return cpu.raise(at, Exception::plain(vector::BR));
    }
    let (segment, size) = (at.shape.segment(), W::BYTES as u32);
    let behind = at.shape.size().cut(cpu.offset(at)).wrapping_add(size.into());
    let linear = attempt!(cpu, at, cpu.segment_address(segment, behind, size, false));
    let high: W = attempt!(cpu, at, cpu.load(linear, Through::Data));
    if index > high.sign_extend() as i64 {
        return cpu.raise(at, Exception::plain(vector::BR));
    }
    at.next(cpu)
}
