//! rdmsr, wrmsr, rdtsc, rdtscp.

use iced_x86::Mnemonic as M;

use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised};
use crate::memory::host;
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};
use crate::state::{Reg, SegmentName, cr0, cr4, efer};

/// What IA32_ARCH_CAPABILITIES says: none of the speculation flaws that cost a mitigation is here. There
/// is no speculation.
const ARCH_CAPABILITIES: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 20
    | 1 << 24
    | 1 << 26
    | 1 << 27;

pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    Some(match draft.instruction.mnemonic() {
        M::Rdmsr => rdmsr,
        M::Wrmsr => {
            draft.ending = Ending::Block;
            wrmsr
        }
        M::Rdtsc => rdtsc::<false>,
        M::Rdtscp => rdtsc::<true>,
        _ => return None,
    })
}

fn set_pair(cpu: &mut Cpu, value: u64) {
    cpu.regs.set(Reg::RAX, value as u32);
    cpu.regs.set(Reg::RDX, (value >> 32) as u32);
}

fn rdmsr(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    let index: u32 = cpu.regs.get(Reg::RCX);
    let Some(value) = cpu.msr(index) else {
        return cpu.raise(at, Exception::gp(0));
    };
    set_pair(cpu, value);
    at.next(cpu)
}

fn wrmsr(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    let index: u32 = cpu.regs.get(Reg::RCX);
    let low: u32 = cpu.regs.get(Reg::RAX);
    let high: u32 = cpu.regs.get(Reg::RDX);
    let rip = cpu.rip_after(at);
    attempt!(cpu, at, cpu.guest_sets_msr(index, u64::from(low) | u64::from(high) << 32));
    cpu.set_rip(rip);
    Next::LOOKUP
}

fn rdtsc<const P: bool>(cpu: &mut Cpu, at: At) -> Next {
    if cpu.control.cr4 & cr4::TSD != 0 && cpu.cpl != 0 {
        return cpu.raise(at, Exception::gp(0));
    }
    let counter = cpu.counter();
    set_pair(cpu, counter);
    if P {
        let number = cpu.msrs.tsc_aux as u32;
        cpu.regs.set(Reg::RCX, number);
    }
    at.next(cpu)
}

impl Cpu {
    /// The guest's time-stamp counter.
    #[inline]
    pub(crate) fn counter(&self) -> u64 {
        self.now().wrapping_add(self.msrs.tsc_offset)
    }

    /// The value of a register, if it is there.
    pub(crate) fn msr(&mut self, index: u32) -> Option<u64> {
        let msrs = &self.msrs;
        Some(match index {
            0x10 => self.counter(),
            0x17 | 0x8b | 0xce | 0x2a | 0xcd | 0x34 | 0x140 | 0x19c | 0x1fc => 0,
            0x3a => 1,
            0x3b => msrs.tsc_adjust,
            0x1b => self.apic.base(),
            0x48 => msrs.spec_ctrl,
            0xfe => 0x508,
            0x10a => ARCH_CAPABILITIES,
            0x174 => msrs.sysenter_cs,
            0x175 => msrs.sysenter_esp,
            0x176 => msrs.sysenter_eip,
            0x179 | 0x17a => 0,
            0x1a0 => msrs.misc_enable,
            0x200..=0x20f => msrs.mtrr_variable[(index - 0x200) as usize],
            0x250 | 0x258 | 0x259 | 0x268..=0x26f => msrs.mtrr_fixed[fixed_number(index)],
            0x277 => msrs.pat,
            0x2ff => msrs.mtrr_default,
            0x6e0 => self.apic.deadline(),
            0x800..=0x8ff => return self.apic_register(index),
            0x4b56_4d00 => msrs.wall_clock,
            0x4b56_4d01 => msrs.system_time,
            0xc000_0080 => self.control.efer,
            0xc000_0081 => msrs.star,
            0xc000_0082 => msrs.lstar,
            0xc000_0083 => msrs.cstar,
            0xc000_0084 => msrs.sfmask,
            0xc000_0100 => self.segments[SegmentName::Fs as usize].base,
            0xc000_0101 => self.segments[SegmentName::Gs as usize].base,
            0xc000_0102 => msrs.kernel_gs_base,
            0xc000_0103 => msrs.tsc_aux,
            _ => return None,
        })
    }

    fn guest_sets_msr(&mut self, index: u32, value: u64) -> Result<(), Raised> {
        if self.set_msr(index, value) { Ok(()) } else { Err(self.fault(Exception::gp(0))) }
    }

    /// Sets a register; `false`: it is not there, or does not take the value.
    pub(crate) fn set_msr(&mut self, index: u32, value: u64) -> bool {
        let canonical = crate::memory::is_canonical(value);
        let now = self.now();
        let msrs = &mut self.msrs;
        match index {
            0x10 => {
                let offset = value.wrapping_sub(now);
                let change = offset.wrapping_sub(msrs.tsc_offset);
                msrs.tsc_offset = offset;
                msrs.tsc_adjust = msrs.tsc_adjust.wrapping_add(change);
            }
            0x3b => {
                let change = value.wrapping_sub(msrs.tsc_adjust);
                msrs.tsc_adjust = value;
                msrs.tsc_offset = msrs.tsc_offset.wrapping_add(change);
            }
            0x17 | 0x8b | 0x79 | 0x49 | 0x10b | 0x17a | 0x140 | 0x19c | 0x1fc => {}
            0x1b => return self.set_apic_base(value),
            0x48 => msrs.spec_ctrl = value,
            0x174 => msrs.sysenter_cs = value,
            0x175 if canonical => msrs.sysenter_esp = value,
            0x176 if canonical => msrs.sysenter_eip = value,
            0x1a0 => msrs.misc_enable = value,
            0x200..=0x20f => msrs.mtrr_variable[(index - 0x200) as usize] = value,
            0x250 | 0x258 | 0x259 | 0x268..=0x26f => msrs.mtrr_fixed[fixed_number(index)] = value,
            0x277 => {
                let valid = value.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7));
                if !valid {
                    return false;
                }
                msrs.pat = value;
            }
            0x2ff => msrs.mtrr_default = value,
            0x6e0 => self.set_deadline(value),
            0x800..=0x8ff => return self.set_apic_register(index, value),
            0x4b56_4d00 => {
                msrs.wall_clock = value;
                let info = self.clock.wall_clock();
                self.tell(value, &info);
            }
            0x4b56_4d01 => {
                msrs.system_time = value;
                let info = self.clock.system_time();
                if value & 1 == 1 {
                    self.tell(value & !1, &info);
                }
            }
            0xc000_0080 => return self.set_efer(value),
            0xc000_0081 => msrs.star = value,
            0xc000_0082 if canonical => msrs.lstar = value,
            0xc000_0083 if canonical => msrs.cstar = value,
            0xc000_0084 => msrs.sfmask = value & 0xffff_ffff,
            0xc000_0100 if canonical => self.set_base(SegmentName::Fs, value),
            0xc000_0101 if canonical => self.set_base(SegmentName::Gs, value),
            0xc000_0102 if canonical => msrs.kernel_gs_base = value,
            0xc000_0103 => msrs.tsc_aux = value & 0xffff_ffff,
            _ => return false,
        }
        true
    }

    /// The paravirtual clock says that the machine was stopped from outside.
    pub(crate) fn excuse_pause(&mut self) {
        const PAUSED: u8 = 1 << 1;
        let address = self.msrs.system_time;
        if address & 1 == 1
            && let Some(flags) = self.ram.host((address & !1).wrapping_add(29), 1)
        {
            // SAFETY: `Ram::host` proved the byte to be guest RAM.
            let old: u8 = unsafe { host::load(flags) };
            // SAFETY: as above.
            unsafe { host::store(flags, old | PAUSED) };
            self.ram.note_written((address & !1).wrapping_add(29));
        }
    }

    fn set_base(&mut self, name: SegmentName, base: u64) {
        self.segments[name as usize].base = base;
        self.refresh();
    }

    fn set_efer(&mut self, value: u64) -> bool {
        const WRITABLE: u64 = efer::SCE | efer::LME | efer::NXE;
        let changes_long = (value ^ self.control.efer) & efer::LME != 0;
        if value & !(WRITABLE | efer::LMA) != 0 || changes_long && self.control.cr0 & cr0::PG != 0 {
            return false;
        }
        let changed = (value ^ self.control.efer) & efer::NXE != 0;
        self.control.efer = value & WRITABLE | self.control.efer & efer::LMA;
        if changed {
            self.flush_all();
        }
        true
    }

    /// Writes what a paravirtual clock says to where the guest wants it.
    fn tell(&mut self, physical: u64, info: &[u8]) {
        if let Some(place) = self.ram.host(physical, info.len() as u64) {
            // SAFETY: `Ram::host` proved the bytes to be guest RAM.
            unsafe { host::copy_out(place, info) };
            self.ram.note_written(physical);
            self.ram.note_written(physical + info.len() as u64 - 1);
        }
    }
}

fn fixed_number(index: u32) -> usize {
    match index {
        0x250 => 0,
        0x258 => 1,
        0x259 => 2,
        _ => (index - 0x268) as usize + 3,
    }
}
