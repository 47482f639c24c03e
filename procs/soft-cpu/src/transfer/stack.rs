//! The stack: push, pop, flags through it, enter and leave.
//!
//! Instructions that push more than once work on a copy of the stack pointer and set it at their end.

use iced_x86::Mnemonic as M;

use super::moves::by_size;
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::Raised;
use crate::memory::access::Through;
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};
use crate::state::{Reg, rflags};
use crate::width::Width;

impl Cpu {
    fn stack_mask(&self) -> u64 {
        match self.mode.stack_bits() {
            64 => u64::MAX,
            32 => 0xffff_ffff,
            _ => 0xffff,
        }
    }

    /// The stack pointer, as wide as the stack is.
    pub fn stack_pointer(&self) -> u64 {
        self.regs.get::<u64>(Reg::RSP) & self.stack_mask()
    }

    /// Sets as much of RSP as the stack is wide.
    pub fn set_stack_pointer(&mut self, value: u64) {
        match self.mode.stack_bits() {
            64 => self.regs.set(Reg::RSP, value),
            32 => self.regs.set(Reg::RSP, value as u32),
            _ => self.regs.set(Reg::RSP, value as u16),
        }
    }

    /// Stores below `pointer` and moves it down.
    pub fn push_below<W: Width>(&mut self, pointer: &mut u64, value: W) -> Result<(), Raised> {
        let below = pointer.wrapping_sub(W::BYTES as u64) & self.stack_mask();
        let linear = self.segment_address(2, below, W::BYTES as u32, true)?;
        self.store(linear, value, Through::Stack)?;
        *pointer = below;
        Ok(())
    }

    /// Loads from `pointer` and moves it up.
    pub fn pop_above<W: Width>(&mut self, pointer: &mut u64) -> Result<W, Raised> {
        let linear = self.segment_address(2, *pointer, W::BYTES as u32, false)?;
        let value = self.load(linear, Through::Stack)?;
        *pointer = pointer.wrapping_add(W::BYTES as u64) & self.stack_mask();
        Ok(value)
    }

    /// Pushes one value.
    #[inline(always)]
    pub fn push<W: Width>(&mut self, value: W) -> Result<(), Raised> {
        if self.mode.is_long() {
            let below = self.regs.get::<u64>(Reg::RSP).wrapping_sub(W::BYTES as u64);
            self.store(below, value, Through::Stack)?;
            self.regs.set(Reg::RSP, below);
            return Ok(());
        }
        let mut pointer = self.stack_pointer();
        self.push_below(&mut pointer, value)?;
        self.set_stack_pointer(pointer);
        Ok(())
    }

    /// The value on top of the stack, which stays there.
    #[inline(always)]
    pub fn top<W: Width>(&mut self) -> Result<W, Raised> {
        if self.mode.is_long() {
            return self.load(self.regs.get(Reg::RSP), Through::Stack);
        }
        let mut pointer = self.stack_pointer();
        self.pop_above(&mut pointer)
    }

    /// Moves the stack pointer up (or down, by a negative number).
    #[inline(always)]
    pub fn drop_top(&mut self, bytes: u64) {
        if self.mode.is_long() {
            let pointer: u64 = self.regs.get(Reg::RSP);
            self.regs.set(Reg::RSP, pointer.wrapping_add(bytes));
        } else {
            self.set_stack_pointer(self.stack_pointer().wrapping_add(bytes));
        }
    }
}

/// Bytes that a push of this instruction moves.
fn pushed(draft: &Draft<'_>) -> usize {
    draft.instruction.stack_pointer_increment().unsigned_abs() as usize
}

pub(super) fn push(draft: &mut Draft<'_>) -> Option<Handler> {
    let size = pushed(draft);
    if let Some(src) = draft.register(0) {
        draft.op.src = src;
        return Some(by_size!(size, push_register));
    }
    if draft.is_memory(0) {
        return Some(by_size!(size, push_memory));
    }
    if draft.is_register(0) {
        // A segment register: `system`.
        return None;
    }
    draft.op.imm = draft.immediate(0)?;
    Some(by_size!(size, push_immediate))
}

fn push_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = cpu.regs.get(at.src);
    attempt!(cpu, at, cpu.push(value));
    at.next(cpu)
}

fn push_immediate<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.push(W::truncate(at.imm)));
    at.next(cpu)
}

fn push_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value = attempt!(cpu, at, cpu.read::<W>(at));
    attempt!(cpu, at, cpu.push(value));
    at.next(cpu)
}

pub(super) fn pop(draft: &mut Draft<'_>) -> Option<Handler> {
    let size = pushed(draft);
    if let Some(dst) = draft.register(0) {
        draft.op.dst = dst;
        return Some(by_size!(size, pop_register));
    }
    draft.is_memory(0).then_some(by_size!(size, pop_memory))
}

fn pop_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = attempt!(cpu, at, cpu.top());
    cpu.drop_top(W::BYTES as u64);
    cpu.regs.set(at.dst, value);
    at.next(cpu)
}

/// The address is computed with the stack pointer as it is afterwards.
fn pop_memory<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = attempt!(cpu, at, cpu.top());
    let before: u64 = cpu.regs.get(Reg::RSP);
    cpu.drop_top(W::BYTES as u64);
    if let Err(raised) = cpu.write(at, value) {
        cpu.regs.set(Reg::RSP, before);
        return cpu.leave(at, raised);
    }
    at.next(cpu)
}

pub(super) fn push_all(draft: &mut Draft<'_>) -> Option<Handler> {
    Some(if draft.instruction.mnemonic() == M::Pusha {
        push_eight::<u16>
    } else {
        push_eight::<u32>
    })
}

fn push_eight<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let mut pointer = cpu.stack_pointer();
    for number in 0..8 {
        let value: W = cpu.regs.get(Reg::general(number));
        attempt!(cpu, at, cpu.push_below(&mut pointer, value));
    }
    cpu.set_stack_pointer(pointer);
    at.next(cpu)
}

pub(super) fn pop_all(draft: &mut Draft<'_>) -> Option<Handler> {
    Some(if draft.instruction.mnemonic() == M::Popa { pop_eight::<u16> } else { pop_eight::<u32> })
}

fn pop_eight<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let mut pointer = cpu.stack_pointer();
    let mut values = [W::truncate(0); 8];
    for value in values.iter_mut().rev() {
        *value = attempt!(cpu, at, cpu.pop_above(&mut pointer));
    }
    for (number, value) in (0..).zip(values).filter(|(number, _)| *number != 4) {
        cpu.regs.set(Reg::general(number), value);
    }
    cpu.set_stack_pointer(pointer);
    at.next(cpu)
}

pub(super) fn push_flags(draft: &mut Draft<'_>) -> Option<Handler> {
    Some(by_size!(pushed(draft), push_rflags))
}

fn push_rflags<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let flags = cpu.rflags() & !(rflags::RF | rflags::VM);
    attempt!(cpu, at, cpu.push(W::truncate(flags)));
    at.next(cpu)
}

pub(super) fn pop_flags(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.ending = Ending::Block;
    Some(by_size!(pushed(draft), pop_rflags))
}

/// Ends the block: interrupts may be open now, or single-step on.
fn pop_rflags<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let value: W = attempt!(cpu, at, cpu.top());
    cpu.drop_top(W::BYTES as u64);
    cpu.load_flags(value.zero_extend(), W::BYTES as u32);
    at.end(cpu)
}

impl Cpu {
    /// Changes those flags that the privilege level lets `popf` and `iret` change; 16-bit forms leave the
    /// upper half.
    pub fn load_flags(&mut self, value: u64, size: u32) {
        let mut writable =
            rflags::ARITHMETIC | rflags::TF | rflags::DF | rflags::NT | rflags::AC | rflags::ID;
        let level = self.system_flags >> 12 & 3;
        if u64::from(self.cpl) <= level || !self.mode.is_protected() {
            writable |= rflags::IF;
        }
        if self.cpl == 0 {
            writable |= rflags::IOPL;
        }
        if size == 2 {
            writable &= 0xffff;
        }
        let kept = self.rflags() & !writable & !rflags::RF;
        self.set_rflags(kept | value & writable);
    }
}

pub(super) fn enter(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.op.imm = u64::from(draft.instruction.immediate16())
        | u64::from(draft.instruction.immediate8_2nd() & 31) << 16;
    let size = match draft.instruction.code() {
        iced_x86::Code::Enterw_imm16_imm8 => 2,
        iced_x86::Code::Enterd_imm16_imm8 => 4,
        _ => 8,
    };
    Some(by_size!(size, make_frame))
}

fn make_frame<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let (bytes, level) = (at.imm & 0xffff, at.imm >> 16);
    let mut pointer = cpu.stack_pointer();
    let frame: W = cpu.regs.get(Reg::RBP);
    attempt!(cpu, at, cpu.push_below(&mut pointer, frame));
    let new = pointer;
    // What a narrow stack does not use of the pointer belongs to the frame pointer all the same.
    let upper = cpu.regs.get::<u64>(Reg::RSP) & !cpu.stack_mask();
    if level > 0 {
        // As wide as the stack, whatever is pushed.
        let mut old = cpu.regs.get::<u64>(Reg::RBP) & cpu.stack_mask();
        for _ in 1..level {
            old = old.wrapping_sub(W::BYTES as u64) & cpu.stack_mask();
            let mut from = old;
            let display: W = attempt!(cpu, at, cpu.pop_above(&mut from));
            attempt!(cpu, at, cpu.push_below(&mut pointer, display));
        }
        attempt!(cpu, at, cpu.push_below(&mut pointer, W::truncate(upper | new)));
    }
    // The new top has to be a place for the next push (Intel SDM volume 2, ENTER).
    let top = pointer.wrapping_sub(bytes) & cpu.stack_mask();
    let linear = attempt!(cpu, at, cpu.segment_address(2, top, W::BYTES as u32, true));
    attempt!(cpu, at, cpu.probe_write(linear, W::BYTES, Through::Stack));
    cpu.regs.set(Reg::RBP, W::truncate(upper | new));
    cpu.set_stack_pointer(top);
    at.next(cpu)
}

pub(super) fn leave(draft: &mut Draft<'_>) -> Option<Handler> {
    Some(by_size!(pushed_by_leave(draft), drop_frame))
}

fn pushed_by_leave(draft: &Draft<'_>) -> usize {
    match draft.instruction.code() {
        iced_x86::Code::Leavew => 2,
        iced_x86::Code::Leaved => 4,
        _ => 8,
    }
}

fn drop_frame<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let mut pointer = cpu.regs.get::<u64>(Reg::RBP) & cpu.stack_mask();
    let frame: W = attempt!(cpu, at, cpu.pop_above(&mut pointer));
    cpu.set_stack_pointer(pointer);
    cpu.regs.set(Reg::RBP, frame);
    at.next(cpu)
}
