//! Delivery in real mode: a table of far pointers.

use super::Event;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, vector};
use crate::memory::access::Through;
use crate::state::{Segment, rflags};

impl Cpu {
    pub(super) fn enter_real(&mut self, event: Event) -> Result<(), Raised> {
        let offset = u64::from(event.vector) * 4;
        if offset + 3 > u64::from(self.idt.limit) {
            // In real mode a fault has no error code.
            return Err(self.fault(Exception::plain(vector::GP)));
        }
        let entry: u32 = self.load(self.idt.base.wrapping_add(offset), Through::System)?;
        let mut pointer = self.stack_pointer();
        let (flags, rip) = (self.pushed_flags(event) & !rflags::RF, self.rip());
        let selector = self.segments[1].selector;
        self.push_below(&mut pointer, flags as u16)?;
        self.push_below(&mut pointer, selector)?;
        self.push_below(&mut pointer, rip as u16)?;
        self.set_stack_pointer(pointer);
        self.set_rflags(self.rflags() & !(rflags::IF | rflags::TF | rflags::AC | rflags::RF));
        let selector = (entry >> 16) as u16;
        let code = Segment { selector, base: u64::from(selector) << 4, ..self.segments[1] };
        self.set_real_code(code, u64::from(entry & 0xffff));
        Ok(())
    }

    /// CS in real mode, whose selector keeps its low bits.
    pub(crate) fn set_real_code(&mut self, code: Segment, rip: u64) {
        if self.segments[1].base != code.base {
            self.blocks.drop_all_links();
        }
        self.segments[1] = code;
        self.refresh();
        self.set_rip(rip);
    }
}
