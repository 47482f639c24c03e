//! Address spaces: CR3, and what drops translations (Intel SDM volume 3, 4.10.4).
//!
//! A translation lives in the TLB, and in links between blocks that skip the look-up: each of these
//! functions drops both.

use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised};
use crate::memory::access::Through;
use crate::op::{At, Next};
use crate::state::{Reg, cr0, cr4};

/// In a value for CR3, where there are PCIDs: the translations of the space stay.
const KEEP: u64 = 1 << 63;

impl Cpu {
    fn has_pcid(&self) -> bool {
        self.control.cr4 & cr4::PCIDE != 0
    }

    /// Makes the space that CR3 names the present one.
    pub(crate) fn enter_space(&mut self) {
        let pcid = if self.has_pcid() { self.control.cr3 as u16 & 0xfff } else { 0 };
        let (number, is_new) = self.tlb.enter(pcid);
        self.blocks.enter_space(number);
        if is_new {
            self.blocks.drop_links_of(number);
        }
        self.select_bank();
    }

    /// Forgets the translations of one space, but for global pages.
    fn flush_space(&mut self, pcid: u16) {
        if let Some(number) = self.tlb.number_of(pcid) {
            self.tlb.flush_local(number);
            self.blocks.drop_links_of(number);
        }
    }

    /// Forgets all translations.
    pub(crate) fn flush_all(&mut self) {
        self.tlb.flush();
        self.blocks.drop_all_links();
    }

    pub(super) fn set_cr3(&mut self, value: u64) -> Result<(), Raised> {
        let keeps = self.has_pcid() && value & KEEP != 0;
        let value = if self.has_pcid() { value & !KEEP } else { value };
        if self.is_ia32e() && value >> crate::memory::walk::PHYSICAL_BITS != 0 {
            return Err(self.fault(Exception::gp(0)));
        }
        let pae = self.control.cr0 & cr0::PG != 0 && self.control.cr4 & cr4::PAE != 0;
        if pae && !self.is_ia32e() && !self.load_pae_pointers(value) {
            return Err(self.fault(Exception::gp(0)));
        }
        self.control.cr3 = value;
        self.enter_space();
        if !keeps {
            self.flush_space(if self.has_pcid() { value as u16 & 0xfff } else { 0 });
        }
        Ok(())
    }
}

pub(super) fn invlpg(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    let base: u64 = cpu.regs.get(Reg::base_of(at.shape.segment()));
    let linear = base.wrapping_add(cpu.offset(at));
    let linear = if cpu.mode.is_long() { linear } else { linear & 0xffff_ffff };
    if cpu.tlb.flush_page(linear) {
        cpu.blocks.drop_all_links();
    } else {
        cpu.blocks.drop_links_to(linear);
    }
    at.end(cpu)
}

/// The descriptor is a PCID and an address; `dst` holds the kind: one address, one space, everything,
/// everything but global pages.
pub(super) fn invpcid(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    let linear = attempt!(cpu, at, cpu.address(at, 16, false));
    let pcid: u64 = attempt!(cpu, at, cpu.load(linear, Through::Data));
    let page: u64 = attempt!(cpu, at, cpu.load(linear.wrapping_add(8), Through::Data));
    let kind: u64 = cpu.regs.get(at.dst);
    let kind = if cpu.mode.is_long() { kind } else { kind & 0xffff_ffff };
    let is_elsewhere = kind <= 1 && pcid != 0 && !cpu.has_pcid();
    let is_nowhere = kind == 0 && !crate::memory::is_canonical(page);
    if kind > 3 || pcid >> 12 != 0 || is_elsewhere || is_nowhere {
        return cpu.raise(at, Exception::gp(0));
    }
    match kind {
        0 => invalidate_address(cpu, pcid as u16, page),
        1 => cpu.flush_space(pcid as u16),
        2 => cpu.flush_all(),
        _ => {
            cpu.tlb.flush_locals();
            cpu.blocks.drop_local_links();
        }
    }
    at.end(cpu)
}

/// The links of another space are not told apart by page there: all of them go.
fn invalidate_address(cpu: &mut Cpu, pcid: u16, page: u64) {
    if cpu.tlb.flush_page(page) {
        cpu.blocks.drop_all_links();
    } else if let Some(number) = cpu.tlb.number_of(pcid) {
        cpu.blocks.drop_links_of(number);
    }
}
