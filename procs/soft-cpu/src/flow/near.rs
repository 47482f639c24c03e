//! Jumps, calls and returns within the code segment.
//!
//! In every operation here `imm` is the target relative to the block's first byte. Outside 64-bit mode
//! `displacement` is the mask of the new instruction pointer, and the code segment's limit is checked.

use iced_x86::{Code, Instruction, Mnemonic as M, OpKind};

use crate::attempt;
use crate::cpu::{Cpu, Mode};
use crate::fault::Exception;
use crate::memory::ram::PAGE;
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};
use crate::state::{Flags, Reg};
use crate::width::Width;

/// Whether a target is in the page of the block's first byte.
fn is_local(page_offset: u64, target: u64) -> bool {
    page_offset.wrapping_add(target) < PAGE
}

/// An unconditional jump to `target`.
pub(crate) fn jump_handler(mode: Mode, page_offset: u64, target: u64) -> Handler {
    match (mode.is_long(), is_local(page_offset, target)) {
        (true, true) => jump_direct::<true>,
        (true, false) => jump_direct::<false>,
        (false, _) => jump_legacy,
    }
}

/// Fills in a direct target.
fn aim(draft: &mut Draft<'_>) {
    let target = draft.instruction.near_branch_target();
    let is_short = draft.instruction.op_kind(0) == OpKind::NearBranch16;
    draft.op.imm = target;
    draft.op.displacement = if is_short { 0xffff } else { 0xffff_ffff };
}

fn is_direct(draft: &Draft<'_>) -> bool {
    matches!(
        draft.instruction.op_kind(0),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    )
}

/// The instance of a generic handler for 16, 32 or 64 bits.
macro_rules! by_bits {
    ($size:expr, $handler:ident) => {
        match $size {
            2 => $handler::<u16> as Handler,
            4 => $handler::<u32>,
            8 => $handler::<u64>,
            _ => return None,
        }
    };
}

pub(super) fn jump(draft: &mut Draft<'_>) -> Option<Handler> {
    if is_direct(draft) {
        aim(draft);
        draft.ending = Ending::Linked;
        return Some(jump_handler(draft.mode, draft.page_offset, draft.op.imm));
    }
    if draft.instruction.is_jmp_near_indirect() {
        draft.ending = Ending::Block;
        let size = draft.size(0);
        if let Some(src) = draft.register(0) {
            draft.op.src = src;
            return Some(by_bits!(size, jump_register));
        }
        return Some(by_bits!(size, jump_memory));
    }
    None
}

impl Cpu {
    /// RIP outside 64-bit mode: truncated, and within the code segment.
    fn legacy_target(&mut self, at: At, target: u64) -> Result<u64, crate::fault::Raised> {
        let target = target & at.displacement;
        if target > u64::from(self.segments[1].limit) {
            return Err(self.fault(Exception::gp(0)));
        }
        Ok(target)
    }

    /// Goes to an address that was computed, from the handler of `at`.
    #[inline(always)]
    fn go_to(&mut self, at: At, target: u64) -> Next {
        if self.mode.is_long() {
            if !crate::memory::is_canonical(target) {
                return self.raise(at, Exception::gp(0));
            }
        } else if target > u64::from(self.segments[1].limit) {
            return self.raise(at, Exception::gp(0));
        }
        self.set_rip(target);
        self.go()
    }
}

fn jump_direct<const LOCAL: bool>(cpu: &mut Cpu, at: At) -> Next {
    let target = cpu.rip().wrapping_add(at.imm);
    cpu.follow::<LOCAL>(at, target)
}

fn jump_legacy(cpu: &mut Cpu, at: At) -> Next {
    let target = cpu.rip().wrapping_add(at.imm);
    let target = attempt!(cpu, at, cpu.legacy_target(at, target));
    cpu.follow::<false>(at, target)
}

fn jump_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let target: W = cpu.regs.get(at.src);
    cpu.go_to(at, target.zero_extend())
}

fn jump_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let target: W = attempt!(cpu, at, cpu.read(at));
    cpu.go_to(at, target.zero_extend())
}

pub(super) fn conditional(draft: &mut Draft<'_>) -> Option<Handler> {
    aim(draft);
    draft.ending = Ending::Forked;
    let local = is_local(draft.page_offset, draft.op.imm);
    macro_rules! table {
        ($($number:literal)*) => {
            match (draft.instruction.condition_code() as u8).wrapping_sub(1) {
                $($number => match (draft.mode.is_long(), local) {
                    (true, true) => jump_if::<$number, true> as Handler,
                    (true, false) => jump_if::<$number, false>,
                    (false, _) => jump_legacy_if::<$number>,
                },)*
                _ => return None,
            }
        };
    }
    Some(table!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15))
}

/// Whether `alu` may execute this jump together with the instruction before it; its condition's number.
pub(crate) fn fusable(jump: &Instruction, mode: Mode, page_offset: u64) -> Option<u8> {
    let is_local = is_local(page_offset, jump.near_branch_target());
    let fits = jump.is_jcc_short_or_near() && mode.is_long() && is_local;
    fits.then(|| (jump.condition_code() as u8).wrapping_sub(1))
}

/// The jump of a fused pair, whose operation `at` is: taken or not, by flags that need not come from memory.
#[inline(always)]
pub(crate) fn branch<const CONDITION: u8>(cpu: &mut Cpu, at: At, flags: Flags) -> Next {
    if flags.holds::<CONDITION>() {
        let target = cpu.rip().wrapping_add(at.imm);
        return cpu.follow::<true>(at, target);
    }
    at.behind_link().enter(cpu)
}

fn jump_if<const CONDITION: u8, const LOCAL: bool>(cpu: &mut Cpu, at: At) -> Next {
    if cpu.flags.holds::<CONDITION>() {
        let target = cpu.rip().wrapping_add(at.imm);
        return cpu.follow::<LOCAL>(at, target);
    }
    at.behind_link().enter(cpu)
}

fn jump_legacy_if<const CONDITION: u8>(cpu: &mut Cpu, at: At) -> Next {
    if cpu.flags.holds::<CONDITION>() {
        return jump_legacy(cpu, at);
    }
    at.behind_link().enter(cpu)
}

/// loop and jcxz: `dst` is the counter, of the address size.
pub(super) fn count(draft: &mut Draft<'_>) -> Option<Handler> {
    aim(draft);
    draft.ending = Ending::Forked;
    let code = draft.instruction.code();
    let size = match code {
        Code::Jcxz_rel8_16 | Code::Jcxz_rel8_32 => 2,
        Code::Jecxz_rel8_16 | Code::Jecxz_rel8_32 | Code::Jecxz_rel8_64 => 4,
        Code::Jrcxz_rel8_16 | Code::Jrcxz_rel8_64 => 8,
        Code::Loop_rel8_16_CX
        | Code::Loop_rel8_32_CX
        | Code::Loope_rel8_16_CX
        | Code::Loope_rel8_32_CX
        | Code::Loopne_rel8_16_CX
        | Code::Loopne_rel8_32_CX => 2,
        Code::Loop_rel8_16_ECX
        | Code::Loop_rel8_32_ECX
        | Code::Loop_rel8_64_ECX
        | Code::Loope_rel8_16_ECX
        | Code::Loope_rel8_32_ECX
        | Code::Loope_rel8_64_ECX
        | Code::Loopne_rel8_16_ECX
        | Code::Loopne_rel8_32_ECX
        | Code::Loopne_rel8_64_ECX => 4,
        _ => 8,
    };
    Some(match draft.instruction.mnemonic() {
        M::Loop => by_bits!(size, loop_always),
        M::Loope => by_bits!(size, loop_equal),
        M::Loopne => by_bits!(size, loop_unequal),
        _ => by_bits!(size, jump_if_zero),
    })
}

/// Jumps by the link, in any mode.
fn jump_any(cpu: &mut Cpu, at: At) -> Next {
    if cpu.mode.is_long() { jump_direct::<false>(cpu, at) } else { jump_legacy(cpu, at) }
}

fn loop_while<W: Width>(cpu: &mut Cpu, at: At, condition: bool) -> Next {
    let before: u64 = cpu.regs.get(Reg::RCX);
    let left = W::truncate(before.wrapping_sub(1));
    cpu.regs.set(Reg::RCX, left);
    if left.zero_extend() == 0 || !condition {
        return at.behind_link().enter(cpu);
    }
    let next = jump_any(cpu, at);
    if next == Next::LOOKUP && matches!(cpu.stop, crate::fault::Stop::Fault(_)) {
        // The target was beyond the segment: the instruction has not happened.
        cpu.regs.set(Reg::RCX, before);
    }
    next
}

fn loop_always<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    loop_while::<W>(cpu, at, true)
}

fn loop_equal<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let condition = cpu.flags.zf();
    loop_while::<W>(cpu, at, condition)
}

fn loop_unequal<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let condition = !cpu.flags.zf();
    loop_while::<W>(cpu, at, condition)
}

fn jump_if_zero<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let counter: W = cpu.regs.get(Reg::RCX);
    if counter.zero_extend() == 0 { jump_any(cpu, at) } else { at.behind_link().enter(cpu) }
}

/// Bytes of the return address.
fn pushed(draft: &Draft<'_>) -> usize {
    draft.instruction.stack_pointer_increment().unsigned_abs() as usize
}

pub(super) fn call(draft: &mut Draft<'_>) -> Option<Handler> {
    let size = pushed(draft);
    if is_direct(draft) {
        aim(draft);
        draft.ending = Ending::Linked;
        let local = is_local(draft.page_offset, draft.op.imm);
        return Some(match (size, draft.mode.is_long(), local) {
            (8, true, true) => call_direct::<true>,
            (8, true, false) => call_direct::<false>,
            (2, false, _) => call_legacy::<u16>,
            (4, false, _) => call_legacy::<u32>,
            _ => return None,
        });
    }
    if !draft.instruction.is_call_near_indirect() {
        return None;
    }
    draft.ending = Ending::Block;
    if let Some(src) = draft.register(0) {
        draft.op.src = src;
        return Some(by_bits!(size, call_register));
    }
    Some(by_bits!(size, call_memory))
}

fn call_direct<const LOCAL: bool>(cpu: &mut Cpu, at: At) -> Next {
    let back = cpu.rip_after(at);
    attempt!(cpu, at, cpu.push(back));
    let target = cpu.rip().wrapping_add(at.imm);
    cpu.follow::<LOCAL>(at, target)
}

fn call_legacy<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let target = cpu.rip().wrapping_add(at.imm);
    let target = attempt!(cpu, at, cpu.legacy_target(at, target));
    let back = W::truncate(cpu.rip_after(at));
    attempt!(cpu, at, cpu.push(back));
    cpu.follow::<false>(at, target)
}

fn call_to<W: Width>(cpu: &mut Cpu, at: At, target: W) -> Next {
    let target = target.zero_extend();
    let limit = u64::from(cpu.segments[1].limit);
    let allowed =
        if cpu.mode.is_long() { crate::memory::is_canonical(target) } else { target <= limit };
    if !allowed {
        return cpu.raise(at, Exception::gp(0));
    }
    let back = W::truncate(cpu.rip_after(at));
    attempt!(cpu, at, cpu.push(back));
    cpu.set_rip(target);
    cpu.go()
}

fn call_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let target: W = cpu.regs.get(at.src);
    call_to(cpu, at, target)
}

fn call_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let target: W = attempt!(cpu, at, cpu.read(at));
    call_to(cpu, at, target)
}

/// `imm` is how many bytes of arguments are dropped.
pub(super) fn ret(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.ending = Ending::Block;
    let has_operand = draft.instruction.op_count() == 1;
    draft.op.imm = if has_operand { draft.immediate(0)? & 0xffff } else { 0 };
    let size = match draft.instruction.code() {
        Code::Retnw | Code::Retnw_imm16 => 2,
        Code::Retnd | Code::Retnd_imm16 => 4,
        _ => 8,
    };
    Some(by_bits!(size, return_near))
}

fn return_near<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let target: W = attempt!(cpu, at, cpu.top());
    let target = target.zero_extend();
    let limit = u64::from(cpu.segments[1].limit);
    let allowed =
        if cpu.mode.is_long() { crate::memory::is_canonical(target) } else { target <= limit };
    if !allowed {
        return cpu.raise(at, Exception::gp(0));
    }
    cpu.drop_top(W::BYTES as u64 + at.imm);
    cpu.set_rip(target);
    cpu.go()
}
