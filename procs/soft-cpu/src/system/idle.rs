//! hlt, the interrupt flag, alignment-check flag, swapgs and the segment-base instructions.

use iced_x86::Mnemonic as M;

use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised, Stop};
use crate::op::{At, Handler, Next};
use crate::select::{Draft, Ending};
use crate::state::{Reg, SegmentName, cr4, rflags};

pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    let mnemonic = draft.instruction.mnemonic();
    draft.ending = if mnemonic == M::Hlt { Ending::Block } else { Ending::Open };
    Some(match mnemonic {
        M::Hlt => hlt,
        M::Cli => cli,
        M::Sti => sti,
        M::Clac => set_ac::<false>,
        M::Stac => set_ac::<true>,
        M::Swapgs => swapgs,
        M::Rdfsbase | M::Rdgsbase | M::Wrfsbase | M::Wrgsbase => return bases(draft),
        M::Clflush | M::Clflushopt | M::Clwb | M::Cldemote => touch,
        M::Vmcall | M::Vmmcall => hypercall,
        _ => return None,
    })
}

fn hlt(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, cpu.demand_kernel());
    cpu.stop = Stop::Halt;
    at.end(cpu)
}

/// CLI and STI obey IOPL.
fn demand_iopl(cpu: &mut Cpu) -> Result<(), Raised> {
    let level = (cpu.system_flags & rflags::IOPL) >> 12;
    if !cpu.mode.is_protected() || u64::from(cpu.cpl) <= level {
        return Ok(());
    }
    Err(cpu.fault(Exception::gp(0)))
}

fn cli(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, demand_iopl(cpu));
    cpu.system_flags &= !rflags::IF;
    at.next(cpu)
}

/// Interrupts wait for one instruction more. Where none waits and that instruction is one of the block, it will be over
/// when the run loop looks; what comes meanwhile can as well have come later.
fn sti(cpu: &mut Cpu, at: At) -> Next {
    attempt!(cpu, at, demand_iopl(cpu));
    let was_open = cpu.system_flags & rflags::IF != 0;
    cpu.system_flags |= rflags::IF;
    // What stands behind the last instruction of a block has no length.
    let goes_on = !cpu.is_alone && at.following().len != 0;
    if goes_on && !cpu.interrupt_is_due() && !cpu.has_signals() {
        return at.next(cpu);
    }
    cpu.shadow |= !was_open;
    cpu.stop = Stop::Window;
    at.end(cpu)
}

fn set_ac<const ON: bool>(cpu: &mut Cpu, at: At) -> Next {
    if cpu.cpl != 0 || cpu.control.cr4 & cr4::SMAP == 0 {
        return cpu.raise(at, Exception::UD);
    }
    if ON {
        cpu.system_flags |= rflags::AC;
    } else {
        cpu.system_flags &= !rflags::AC;
    }
    cpu.select_bank();
    at.next(cpu)
}

fn swapgs(cpu: &mut Cpu, at: At) -> Next {
    if !cpu.mode.is_long() {
        return cpu.raise(at, Exception::UD);
    }
    attempt!(cpu, at, cpu.demand_kernel());
    let segment = &mut cpu.segments[SegmentName::Gs as usize];
    std::mem::swap(&mut segment.base, &mut cpu.msrs.kernel_gs_base);
    let base = segment.base;
    cpu.regs.set(Reg::base_of(SegmentName::Gs as u8), base);
    at.next(cpu)
}

/// `src` or `dst` is the register, `imm` the segment and (bit 8) whether it has 64 bits.
fn bases(draft: &mut Draft<'_>) -> Option<Handler> {
    let mnemonic = draft.instruction.mnemonic();
    let is_gs = matches!(mnemonic, M::Rdgsbase | M::Wrgsbase);
    let name = if is_gs { SegmentName::Gs } else { SegmentName::Fs };
    draft.op.dst = draft.register(0)?;
    draft.op.imm = name as u64 | u64::from(draft.size(0) == 8) << 8;
    let is_read = matches!(mnemonic, M::Rdfsbase | M::Rdgsbase);
    Some(if is_read { read_base } else { write_base })
}

fn read_base(cpu: &mut Cpu, at: At) -> Next {
    if cpu.control.cr4 & cr4::FSGSBASE == 0 {
        return cpu.raise(at, Exception::UD);
    }
    let base = cpu.segments[at.imm as usize & 7].base;
    let mask = if at.imm >> 8 == 1 { u64::MAX } else { 0xffff_ffff };
    cpu.regs.set(at.dst, base & mask);
    at.next(cpu)
}

fn write_base(cpu: &mut Cpu, at: At) -> Next {
    if cpu.control.cr4 & cr4::FSGSBASE == 0 {
        return cpu.raise(at, Exception::UD);
    }
    let mask = if at.imm >> 8 == 1 { u64::MAX } else { 0xffff_ffff };
    let base = cpu.regs.get::<u64>(at.dst) & mask;
    if !crate::memory::is_canonical(base) {
        return cpu.raise(at, Exception::gp(0));
    }
    let number = at.imm as u8 & 7;
    cpu.segments[usize::from(number)].base = base;
    cpu.regs.set(Reg::base_of(number), base);
    at.next(cpu)
}

/// clflush and its like: checked as a load of a byte.
fn touch(cpu: &mut Cpu, at: At) -> Next {
    let _: u8 = attempt!(cpu, at, cpu.read(at));
    at.next(cpu)
}

/// The paravirtual calls of KVM: none of those is offered that guests make.
fn hypercall(cpu: &mut Cpu, at: At) -> Next {
    const NOT_THERE: u64 = -1000i64 as u64;
    cpu.regs.set(Reg::RAX, NOT_THERE);
    at.next(cpu)
}
