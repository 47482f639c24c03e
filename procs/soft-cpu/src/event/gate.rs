//! Delivery in protected and 64-bit mode: through a gate of the interrupt descriptor table.

use super::{Event, Source};
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, vector};
use crate::memory::access::Through;
use crate::state::{Segment, SegmentName, rflags};
use crate::system::selector_code;

/// A gate, of either size.
#[derive(Debug, Clone, Copy)]
struct Gate {
    offset: u64,
    selector: u16,
    /// Number of the interrupt stack, 1–7; 0: none.
    stack: u8,
    kind: u8,
    dpl: u8,
    present: bool,
}

impl Gate {
    fn parse(low: u64, high: u64) -> Self {
        Self {
            offset: low & 0xffff | low >> 32 & 0xffff_0000 | high << 32,
            selector: (low >> 16) as u16,
            stack: (low >> 32) as u8 & 7,
            kind: (low >> 40) as u8 & 0x1f,
            dpl: (low >> 45) as u8 & 3,
            present: low >> 47 & 1 == 1,
        }
    }

    /// Interrupt gates close interrupts; trap gates do not.
    fn closes(self) -> bool {
        self.kind & 1 == 0
    }

    /// A 16-bit gate of the 80286.
    fn is_short(self) -> bool {
        self.kind & 8 == 0
    }
}

/// The stack that an event is delivered on.
struct Stack {
    segment: Segment,
    pointer: u64,
    cpl: u8,
}

impl Cpu {
    pub(super) fn enter_gate(&mut self, event: Event) -> Result<(), Raised> {
        let gate = self.gate(event)?;
        let code = self.gate_code(gate, event)?;
        let is_conforming = code.kind & 4 != 0;
        let cpl = if is_conforming { self.cpl } else { code.dpl };
        if self.is_ia32e() {
            self.enter_long(event, gate, code, cpl)
        } else {
            self.enter_legacy(event, gate, code, cpl)
        }
    }

    fn gate(&mut self, event: Event) -> Result<Gate, Raised> {
        let long = self.is_ia32e();
        let size = if long { 16 } else { 8 };
        let offset = u32::from(event.vector) * size;
        let code = u32::from(event.vector) * 8 + 2 + event.ext();
        if offset + size - 1 > u32::from(self.idt.limit) {
            return Err(self.fault(Exception::gp(code)));
        }
        let linear = self.idt.base.wrapping_add(offset.into());
        let low: u64 = self.load(linear, Through::System)?;
        let high = if long { self.load(linear.wrapping_add(8), Through::System)? } else { 0u64 };
        let mut gate = Gate::parse(low, high & 0xffff_ffff);
        if gate.is_short() {
            gate.offset &= 0xffff;
        }
        let is_gate = matches!((gate.kind, long), (0xe | 0xf, _) | (6 | 7, false));
        let reachable = event.source != Source::Software || gate.dpl >= self.cpl;
        if !is_gate || !reachable {
            return Err(self.fault(Exception::gp(code)));
        }
        if !gate.present {
            return Err(self.fault(Exception::with_code(vector::NP, code)));
        }
        Ok(gate)
    }

    fn gate_code(&mut self, gate: Gate, event: Event) -> Result<Segment, Raised> {
        if gate.selector & !3 == 0 {
            return Err(self.fault(Exception::gp(event.ext())));
        }
        let code = selector_code(gate.selector) + event.ext();
        let descriptor = self.descriptor(gate.selector, vector::GP)?;
        let segment = descriptor.segment(gate.selector);
        let fits = segment.is_code() && segment.dpl <= self.cpl;
        let fits_long = !self.is_ia32e() || segment.long && !segment.big;
        if !fits || !fits_long {
            return Err(self.fault(Exception::gp(code)));
        }
        if !segment.present {
            return Err(self.fault(Exception::with_code(vector::NP, code)));
        }
        Ok(segment)
    }

    fn enter_long(
        &mut self,
        event: Event,
        gate: Gate,
        code: Segment,
        cpl: u8,
    ) -> Result<(), Raised> {
        let old_stack = self.segments[SegmentName::Ss as usize].selector;
        let old_pointer: u64 = self.regs.get(crate::state::Reg::RSP);
        let changes = cpl != self.cpl;
        let pointer = if gate.stack != 0 {
            self.task_pointer(u64::from(gate.stack) * 8 + 0x1c)?
        } else if changes {
            self.task_pointer(u64::from(cpl) * 8 + 4)?
        } else {
            old_pointer
        };
        let top = pointer & !0xf;
        let mut frame = [0u64; 6];
        frame[0] = u64::from(event.code.unwrap_or(0));
        frame[1] = self.rip();
        frame[2] = self.segments[SegmentName::Cs as usize].selector.into();
        frame[3] = self.pushed_flags(event);
        frame[4] = old_pointer;
        frame[5] = old_stack.into();
        let words = if event.code.is_some() { &frame[..] } else { &frame[1..] };
        let bottom = top.wrapping_sub(words.len() as u64 * 8);
        let mut bytes = [0; 48];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        if !crate::memory::is_canonical(bottom) || !crate::memory::is_canonical(top) {
            return Err(self.fault(Exception::with_code(vector::SS, 0)));
        }
        // The stack belongs to the new level, which is never the user's with a frame of the kernel's.
        let through = if cpl == 3 { Through::Stack } else { Through::System };
        self.store_bytes(bottom, &bytes[..words.len() * 8], through)?;
        if !crate::memory::is_canonical(gate.offset) {
            return Err(self.fault(Exception::gp(0)));
        }
        if changes {
            self.segments[SegmentName::Ss as usize] =
                Segment { selector: cpl.into(), dpl: cpl, ..Segment::default() };
        }
        self.regs.set(crate::state::Reg::RSP, bottom);
        self.finish(gate, code, cpl);
        Ok(())
    }

    fn enter_legacy(
        &mut self,
        event: Event,
        gate: Gate,
        code: Segment,
        cpl: u8,
    ) -> Result<(), Raised> {
        let changes = cpl != self.cpl;
        let old = Stack {
            segment: self.segments[SegmentName::Ss as usize],
            pointer: self.stack_pointer(),
            cpl: self.cpl,
        };
        let (old_rsp, old_flags) =
            (self.regs.get::<u32>(crate::state::Reg::RSP), self.pushed_flags(event));
        let (old_code, rip) = (self.segments[SegmentName::Cs as usize].selector, self.rip());
        if changes {
            let (selector, pointer) = self.task_stack(cpl)?;
            let segment = self.stack_segment(selector, cpl, vector::TS)?;
            self.switch_stack(Stack { segment, pointer: pointer.into(), cpl });
        }
        let mut words = [0u32; 6];
        let mut count = 0;
        let mut add = |word: u32| {
            words[count] = word;
            count += 1;
        };
        if changes {
            add(old.segment.selector.into());
            add(old_rsp);
        }
        add(old_flags as u32);
        add(old_code.into());
        add(rip as u32);
        if let Some(code) = event.code {
            add(code);
        }
        if let Err(raised) = self.push_words(&words[..count], gate.is_short()) {
            if changes {
                self.switch_stack(old);
                self.regs.set(crate::state::Reg::RSP, old_rsp);
            }
            return Err(raised);
        }
        self.finish(gate, code, cpl);
        Ok(())
    }

    fn switch_stack(&mut self, stack: Stack) {
        self.segments[SegmentName::Ss as usize] = stack.segment;
        self.cpl = stack.cpl;
        self.refresh();
        self.set_stack_pointer(stack.pointer);
    }

    fn push_words(&mut self, words: &[u32], short: bool) -> Result<(), Raised> {
        let mut pointer = self.stack_pointer();
        for word in words {
            if short {
                self.push_below(&mut pointer, *word as u16)?;
            } else {
                self.push_below(&mut pointer, *word)?;
            }
        }
        self.set_stack_pointer(pointer);
        Ok(())
    }

    fn finish(&mut self, gate: Gate, code: Segment, cpl: u8) {
        let mut cleared = rflags::TF | rflags::NT | rflags::RF | rflags::VM;
        if gate.closes() {
            cleared |= rflags::IF;
        }
        self.set_rflags(self.rflags() & !cleared);
        self.set_code(Segment { selector: gate.selector, ..code }, cpl, gate.offset);
    }

    /// A stack pointer from the 64-bit task state segment.
    fn task_pointer(&mut self, offset: u64) -> Result<u64, Raised> {
        if offset + 7 > u64::from(self.task.limit) {
            let code = selector_code(self.task.selector);
            return Err(self.fault(Exception::with_code(vector::TS, code)));
        }
        self.load(self.task.base.wrapping_add(offset), Through::System)
    }

    /// The stack for a privilege level from a 32- or 16-bit task state segment.
    pub(crate) fn task_stack(&mut self, cpl: u8) -> Result<(u16, u32), Raised> {
        let is_wide = self.task.kind & 8 != 0;
        let (offset, size) =
            if is_wide { (4 + 8 * u64::from(cpl), 8) } else { (2 + 4 * u64::from(cpl), 4) };
        if offset + size - 1 > u64::from(self.task.limit) {
            let code = selector_code(self.task.selector);
            return Err(self.fault(Exception::with_code(vector::TS, code)));
        }
        let linear = self.task.base.wrapping_add(offset);
        if is_wide {
            let pair: u64 = self.load(linear, Through::System)?;
            Ok(((pair >> 32) as u16, pair as u32))
        } else {
            let pair: u32 = self.load(linear, Through::System)?;
            Ok(((pair >> 16) as u16, pair & 0xffff))
        }
    }
}
