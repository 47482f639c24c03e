//! Control and debug registers, and what goes with them: clts, lmsw, smsw. CR3 is [`super::space`]'s.

use iced_x86::{Mnemonic as M, Register};

use super::space;
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, vector};
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};
use crate::state::{Reg, cr0, cr4, efer};
use crate::width::Width;

const CR0_KNOWN: u64 = cr0::PE
    | cr0::MP
    | cr0::EM
    | cr0::TS
    | cr0::ET
    | cr0::NE
    | cr0::WP
    | cr0::AM
    | cr0::NW
    | cr0::CD
    | cr0::PG;

/// What CPUID announces, and no more.
const CR4_KNOWN: u64 = cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::MCE
    | cr4::PGE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT
    | cr4::UMIP
    | cr4::FSGSBASE
    | cr4::PCIDE
    | cr4::SMEP
    | cr4::SMAP;

pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    draft.ending = Ending::Block;
    let instruction = draft.instruction;
    Some(match instruction.mnemonic() {
        M::Mov => {
            let (to, from) = (instruction.op_register(0), instruction.op_register(1));
            let wide = draft.mode.is_long();
            if to.is_cr() || to.is_dr() {
                draft.op.src = draft.register(1)?;
                draft.op.imm = number(to);
                if to.is_cr() { write_control } else { write_debug }
            } else if from.is_cr() || from.is_dr() {
                draft.op.dst = draft.register(0)?;
                draft.op.imm = number(from);
                match (from.is_cr(), wide) {
                    (true, true) => read_control::<u64>,
                    (true, false) => read_control::<u32>,
                    (false, true) => read_debug::<u64>,
                    (false, false) => read_debug::<u32>,
                }
            } else {
                return None;
            }
        }
        M::Clts => clts,
        M::Invlpg => space::invlpg,
        M::Invpcid => {
            draft.op.dst = draft.register(0)?;
            space::invpcid
        }
        M::Wbinvd | M::Invd => forget_caches,
        M::Lmsw => {
            draft.op.src = draft.register(0).unwrap_or(Reg::ZERO);
            if draft.is_memory(0) { lmsw_memory } else { lmsw_register }
        }
        M::Smsw => {
            draft.op.dst = draft.register(0).unwrap_or(Reg::ZERO);
            match (draft.is_memory(0), draft.size(0)) {
                (true, _) => smsw_memory,
                (_, 2) => smsw_register::<u16>,
                (_, 4) => smsw_register::<u32>,
                _ => smsw_register::<u64>,
            }
        }
        _ => return None,
    })
}

fn number(register: Register) -> u64 {
    let first = if register.is_cr() { Register::CR0 } else { Register::DR0 };
    (register as u64).wrapping_sub(first as u64)
}

impl Cpu {
    /// #GP unless at level 0.
    pub(super) fn demand_kernel(&mut self) -> Result<(), Raised> {
        if self.cpl == 0 { Ok(()) } else { Err(self.fault(Exception::gp(0))) }
    }

    fn set_cr0(&mut self, value: u64) -> Result<(), Raised> {
        let old = self.control.cr0;
        let new = value & CR0_KNOWN | cr0::ET;
        let paging = new & cr0::PG != 0;
        let invalid = paging && new & cr0::PE == 0
            || new & cr0::NW != 0 && new & cr0::CD == 0
            || value >> 32 != 0
            || !paging && self.control.cr4 & cr4::PCIDE != 0
            || !paging && self.mode.is_long();
        if invalid {
            return Err(self.fault(Exception::gp(0)));
        }
        let starts = paging && old & cr0::PG == 0;
        if starts && self.control.efer & efer::LME != 0 {
            let code = self.segments[1];
            if self.control.cr4 & cr4::PAE == 0 || code.long {
                return Err(self.fault(Exception::gp(0)));
            }
            self.control.efer |= efer::LMA;
        } else if starts && self.control.cr4 & cr4::PAE != 0 {
            let cr3 = self.control.cr3;
            if !self.load_pae_pointers(cr3) {
                return Err(self.fault(Exception::gp(0)));
            }
        }
        if !paging {
            self.control.efer &= !efer::LMA;
        }
        self.control.cr0 = new;
        if (old ^ new) & (cr0::PG | cr0::WP | cr0::PE) != 0 {
            self.flush_all();
        }
        self.refresh();
        Ok(())
    }

    fn set_cr4(&mut self, value: u64) -> Result<(), Raised> {
        let old = self.control.cr4;
        let long = self.is_ia32e();
        let starts_pcid = value & !old & cr4::PCIDE != 0;
        let invalid = value & !CR4_KNOWN != 0
            || long && value & cr4::PAE == 0
            || starts_pcid && (!long || self.control.cr3 & 0xfff != 0);
        if invalid {
            return Err(self.fault(Exception::gp(0)));
        }
        let changed = old ^ value;
        let paging = cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP;
        self.control.cr4 = value;
        let pae = value & cr4::PAE != 0 && self.control.cr0 & cr0::PG != 0 && !long;
        if pae && changed & paging != 0 {
            let cr3 = self.control.cr3;
            if !self.load_pae_pointers(cr3) {
                self.control.cr4 = old;
                return Err(self.fault(Exception::gp(0)));
            }
        }
        if changed & paging != 0 {
            self.flush_all();
        }
        if changed & cr4::PCIDE != 0 {
            self.enter_space();
        }
        self.refresh();
        Ok(())
    }
}

fn write_control(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    let value: u64 = cpu.regs.get(at.src);
    let value = if cpu.mode.is_long() { value } else { value & 0xffff_ffff };
    // The bases of segments change with the mode: RIP first.
    let rip = cpu.rip_after(at);
    let written = match at.imm {
        0 => cpu.set_cr0(value),
        2 => {
            cpu.control.cr2 = value;
            Ok(())
        }
        3 => cpu.set_cr3(value),
        4 => cpu.set_cr4(value),
        8 if value & !0xf == 0 => {
            cpu.apic.set_priority((value as u8) << 4);
            Ok(())
        }
        8 => Err(cpu.fault(Exception::gp(0))),
        _ => Err(cpu.fault(Exception::UD)),
    };
    attempt!(cpu, at, written);
    cpu.set_rip(rip);
    Next::LOOKUP
}

fn read_control<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    let value = match at.imm {
        0 => cpu.control.cr0,
        2 => cpu.control.cr2,
        3 => cpu.control.cr3,
        4 => cpu.control.cr4,
        8 => u64::from(cpu.apic.priority() >> 4),
        _ => return cpu.raise(at, Exception::UD),
    };
    cpu.regs.set(at.dst, W::truncate(value));
    at.end(cpu)
}

/// DR7.GD, and DR4 and DR5, which are other names of DR6 and DR7 unless CR4.DE is set.
fn debug_number(cpu: &mut Cpu, at: At) -> Result<usize, Raised> {
    const GENERAL_DETECT: u64 = 1 << 13;
    cpu.demand_kernel()?;
    if matches!(at.imm, 4 | 5) && cpu.control.cr4 & cr4::DE != 0 || at.imm > 7 {
        return Err(cpu.fault(Exception::UD));
    }
    if cpu.debug.control & GENERAL_DETECT != 0 {
        cpu.debug.control &= !GENERAL_DETECT;
        cpu.debug.status |= GENERAL_DETECT;
        return Err(cpu.fault(Exception::plain(vector::DB)));
    }
    Ok(if matches!(at.imm, 4 | 5) { at.imm as usize + 2 } else { at.imm as usize })
}

fn write_debug(cpu: &mut Cpu, at: At) -> Next {
    let number = attempt!(cpu, at, debug_number(cpu, at));
    let value: u64 = cpu.regs.get(at.src);
    let value = if cpu.mode.is_long() { value } else { value & 0xffff_ffff };
    if number >= 6 && value >> 32 != 0 {
        return cpu.raise(at, Exception::gp(0));
    }
    match number {
        6 => cpu.debug.status = value & 0xe00f | 0xffff_0ff0,
        7 => cpu.debug.control = value & 0xffff_2bff | 0x400,
        _ => cpu.debug.addresses[number] = value,
    }
    cpu.refresh();
    at.end(cpu)
}

fn read_debug<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    let number = attempt!(cpu, at, debug_number(cpu, at));
    let value = match number {
        6 => cpu.debug.status,
        7 => cpu.debug.control,
        _ => cpu.debug.addresses[number],
    };
    cpu.regs.set(at.dst, W::truncate(value));
    at.end(cpu)
}

fn clts(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    cpu.control.cr0 &= !cr0::TS;
    cpu.refresh();
    at.end(cpu)
}

fn forget_caches(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    at.end(cpu)
}

/// lmsw changes PE, MP, EM and TS, and never clears PE.
fn lmsw(cpu: &mut Cpu, at: At, value: u16) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    let old = cpu.control.cr0;
    let new = old & !0xe | u64::from(value) & 0xf;
    let rip = cpu.rip_after(at);
    attempt!(cpu, at, cpu.set_cr0(new));
    cpu.set_rip(rip);
    Next::LOOKUP
}

fn lmsw_register(cpu: &mut Cpu, at: At) -> Next {
    let value = cpu.regs.get(at.src);
    lmsw(cpu, at, value)
}

fn lmsw_memory(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    let value = attempt!(cpu, at, cpu.read(at));
    lmsw(cpu, at, value)
}

fn smsw_register<W: Width>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_not_umip());
    let value = W::truncate(cpu.control.cr0);
    cpu.regs.set(at.dst, value);
    at.end(cpu)
}

fn smsw_memory(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_not_umip());
    let value = cpu.control.cr0 as u16;
    attempt!(cpu, at, cpu.write(at, value));
    at.end(cpu)
}

impl Cpu {
    /// CR4.UMIP: user code may not look at descriptor tables.
    pub(super) fn demand_not_umip(&mut self) -> Result<(), Raised> {
        if self.control.cr4 & cr4::UMIP != 0 && self.cpl == 3 {
            return Err(self.fault(Exception::gp(0)));
        }
        Ok(())
    }
}
