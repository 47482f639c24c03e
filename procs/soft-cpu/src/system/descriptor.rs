//! Descriptors in the global and local tables (Intel SDM volume 3, 3.4.5 and 3.5).

use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, vector};
use crate::memory::access::Through;
use crate::state::{Segment, efer};

/// Bits of a selector in a fault's error code.
pub(crate) fn selector_code(selector: u16) -> u32 {
    u32::from(selector & !3)
}

/// A descriptor as it was read, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor {
    pub(crate) raw: u64,
    pub(crate) linear: u64,
}

impl Descriptor {
    /// What a segment register holds after loading it.
    pub(crate) fn segment(self, selector: u16) -> Segment {
        let raw = self.raw;
        let pages = raw >> 55 & 1 == 1;
        let limit = (raw & 0xffff | raw >> 32 & 0xf_0000) as u32;
        Segment {
            selector,
            base: raw >> 16 & 0xff_ffff | raw >> 32 & 0xff00_0000,
            limit: if pages { limit << 12 | 0xfff } else { limit },
            kind: (raw >> 40 & 0xf) as u8,
            is_user: raw >> 44 & 1 == 1,
            dpl: (raw >> 45 & 3) as u8,
            present: raw >> 47 & 1 == 1,
            avl: raw >> 52 & 1 == 1,
            long: raw >> 53 & 1 == 1,
            big: raw >> 54 & 1 == 1,
            pages,
        }
    }
}

impl Cpu {
    /// Whether IA-32e mode is on: system descriptors have 16 bytes.
    pub(crate) fn is_ia32e(&self) -> bool {
        self.control.efer & efer::LMA != 0
    }

    /// Reads a descriptor; beyond its table's limit is `fault` with the selector as its code.
    pub(crate) fn descriptor(&mut self, selector: u16, fault: u8) -> Result<Descriptor, Raised> {
        let (base, limit) = if selector & 4 == 0 {
            (self.gdt.base, u32::from(self.gdt.limit))
        } else if self.ldt.present {
            (self.ldt.base, self.ldt.limit)
        } else {
            (0, 0)
        };
        let offset = u32::from(selector & !7);
        if offset + 7 > limit {
            return Err(self.fault(Exception::with_code(fault, selector_code(selector))));
        }
        let linear = base.wrapping_add(offset.into());
        let raw = self.load(linear, Through::System)?;
        Ok(Descriptor { raw, linear })
    }

    /// Marks a code or data segment's descriptor accessed.
    pub(crate) fn mark_accessed(&mut self, descriptor: Descriptor) -> Result<(), Raised> {
        if descriptor.raw >> 40 & 1 == 1 {
            return Ok(());
        }
        let byte = descriptor.linear.wrapping_add(5);
        let kind: u8 = self.load(byte, Through::System)?;
        self.store(byte, kind | 1, Through::System)
    }

    /// The upper half of a 16-byte system descriptor's base.
    fn high_base(&mut self, descriptor: Descriptor) -> Result<u64, Raised> {
        let high: u32 = self.load(descriptor.linear.wrapping_add(8), Through::System)?;
        Ok(u64::from(high) << 32)
    }

    /// lldt.
    pub(crate) fn load_local_table(&mut self, selector: u16) -> Result<(), Raised> {
        if selector & !3 == 0 {
            self.ldt = Segment { selector, ..Segment::default() };
            return Ok(());
        }
        let code = selector_code(selector);
        if selector & 4 != 0 {
            return Err(self.fault(Exception::gp(code)));
        }
        let descriptor = self.descriptor(selector, vector::GP)?;
        let mut segment = descriptor.segment(selector);
        if segment.is_user || segment.kind != 2 {
            return Err(self.fault(Exception::gp(code)));
        }
        if !segment.present {
            return Err(self.fault(Exception::with_code(vector::NP, code)));
        }
        if self.is_ia32e() {
            segment.base |= self.high_base(descriptor)?;
        }
        self.ldt = segment;
        Ok(())
    }

    /// ltr.
    pub(crate) fn load_task(&mut self, selector: u16) -> Result<(), Raised> {
        let code = selector_code(selector);
        if selector & !3 == 0 || selector & 4 != 0 {
            return Err(self.fault(Exception::gp(code)));
        }
        let descriptor = self.descriptor(selector, vector::GP)?;
        let mut segment = descriptor.segment(selector);
        let available = segment.kind == 9 || segment.kind == 1 && !self.is_ia32e();
        if segment.is_user || !available {
            return Err(self.fault(Exception::gp(code)));
        }
        if !segment.present {
            return Err(self.fault(Exception::with_code(vector::NP, code)));
        }
        if self.is_ia32e() {
            segment.base |= self.high_base(descriptor)?;
        }
        let byte = descriptor.linear.wrapping_add(5);
        let kind: u8 = self.load(byte, Through::System)?;
        self.store(byte, kind | 2, Through::System)?;
        segment.kind |= 2;
        self.task = segment;
        Ok(())
    }
}
