//! Instructions on single flags, and those that do nothing.

use iced_x86::Mnemonic as M;

use crate::cpu::Cpu;
use crate::op::{At, Handler, Next};
use crate::select::Draft;
use crate::state::{Flags, Reg, rflags};

pub(super) fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    Some(match draft.instruction.mnemonic() {
        M::Nop | M::Endbr32 | M::Endbr64 | M::Reservednop => nop,
        M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchw
        | M::Prefetch => nop,
        M::Lfence | M::Sfence => nop,
        M::Mfence => fence,
        M::Clc => clc,
        M::Stc => stc,
        M::Cmc => cmc,
        M::Cld => cld,
        M::Std => std,
        M::Lahf => lahf,
        M::Sahf => sahf,
        M::Salc => salc,
        _ => return None,
    })
}

fn nop(cpu: &mut Cpu, at: At) -> Next {
    at.next(cpu)
}

fn fence(cpu: &mut Cpu, at: At) -> Next {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    at.next(cpu)
}

fn clc(cpu: &mut Cpu, at: At) -> Next {
    cpu.flags.set_cf(false);
    at.next(cpu)
}

fn stc(cpu: &mut Cpu, at: At) -> Next {
    cpu.flags.set_cf(true);
    at.next(cpu)
}

fn cmc(cpu: &mut Cpu, at: At) -> Next {
    let carry = cpu.flags.cf();
    cpu.flags.set_cf(!carry);
    at.next(cpu)
}

fn cld(cpu: &mut Cpu, at: At) -> Next {
    cpu.system_flags &= !rflags::DF;
    at.next(cpu)
}

fn std(cpu: &mut Cpu, at: At) -> Next {
    cpu.system_flags |= rflags::DF;
    at.next(cpu)
}

fn lahf(cpu: &mut Cpu, at: At) -> Next {
    let low = cpu.flags.to_rflags() as u8 | rflags::FIXED as u8;
    cpu.regs.set(Reg::AH, low);
    at.next(cpu)
}

fn sahf(cpu: &mut Cpu, at: At) -> Next {
    let low: u8 = cpu.regs.get(Reg::AH);
    let kept = cpu.flags.to_rflags() & rflags::OF;
    cpu.flags = Flags::from_rflags(kept | u64::from(low));
    at.next(cpu)
}

fn salc(cpu: &mut Cpu, at: At) -> Next {
    let value = if cpu.flags.cf() { 0xffu8 } else { 0 };
    cpu.regs.set(Reg::RAX, value);
    at.next(cpu)
}
