//! CMPXCHG, XADD, CMPXCHG8B, CMPXCHG16B, and XCHG with memory, which is locked without saying so.
//!
//! A comparison that fails still writes memory, its old value: the page must be writable either way. The pairs run locked on
//! the host whether or not the guest says LOCK; nobody can tell.

use crate::alu::{Word, locked};
use crate::attempt;
use crate::cpu::Cpu;
use crate::fault::{Exception, Raised};
use crate::op::{At, Next};
use crate::state::{Flags, Reg};

/// What CMPXCHG leaves, given what it found.
#[inline(always)]
fn settle<W: Word>(cpu: &mut Cpu, found: W) {
    let accumulator: W = cpu.regs.get(Reg::RAX);
    cpu.flags = accumulator.sub(found).1;
    if accumulator != found {
        cpu.regs.set(Reg::RAX, found);
    }
}

/// `cmpxchg r, r`.
pub fn compare_register<W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let (found, new): (W, W) = (cpu.regs.get(at.dst), cpu.regs.get(at.src));
    let is_equal = cpu.regs.get::<W>(Reg::RAX) == found;
    settle(cpu, found);
    if is_equal {
        cpu.regs.set(at.dst, new);
    }
    at.next(cpu)
}

/// `cmpxchg m, r`.
pub fn compare_memory<W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let new: W = cpu.regs.get(at.src);
    attempt!(
        cpu,
        at,
        cpu.modify::<W>(at, |cpu, found| {
            let is_equal = cpu.regs.get::<W>(Reg::RAX) == found;
            settle(cpu, found);
            if is_equal { new } else { found }
        })
    );
    at.next(cpu)
}

/// `lock cmpxchg m, r`.
pub fn compare_locked<W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let Some(place) = attempt!(cpu, at, cpu.lockable(at, W::BYTES as u32)) else {
        return compare_memory::<W>(cpu, at);
    };
    let (expected, new): (W, W) = (cpu.regs.get(Reg::RAX), cpu.regs.get(at.src));
    // SAFETY: `lockable` proved that these bytes are guest RAM that may be written.
    let found = unsafe { locked::compare_exchange(place, expected, new) };
    settle(cpu, found);
    at.next(cpu)
}

/// `xadd r, r`. Of one register twice, the sum stays.
pub fn add_register<W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let old: W = cpu.regs.get(at.dst);
    let (sum, flags) = old.add(cpu.regs.get(at.src));
    cpu.regs.set(at.src, old);
    cpu.regs.set(at.dst, sum);
    cpu.flags = flags;
    at.next(cpu)
}

/// `xadd m, r`.
pub fn add_memory<W: Word>(cpu: &mut Cpu, at: At) -> Next {
    attempt!(
        cpu,
        at,
        cpu.modify::<W>(at, |cpu, old| {
            let (sum, flags) = old.add(cpu.regs.get(at.src));
            cpu.regs.set(at.src, old);
            cpu.flags = flags;
            sum
        })
    );
    at.next(cpu)
}

/// `lock xadd m, r`.
pub fn add_locked<W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let Some(place) = attempt!(cpu, at, cpu.lockable(at, W::BYTES as u32)) else {
        return add_memory::<W>(cpu, at);
    };
    let addend: W = cpu.regs.get(at.src);
    // SAFETY: `lockable` proved that these bytes are guest RAM that may be written.
    let old = unsafe { locked::update::<W>(place, |old| old.add(addend).0) };
    cpu.flags = old.add(addend).1;
    cpu.regs.set(at.src, old);
    at.next(cpu)
}

/// `xchg m, r`.
pub fn swap_memory<W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let new: W = cpu.regs.get(at.src);
    match attempt!(cpu, at, cpu.lockable(at, W::BYTES as u32)) {
        Some(place) => {
            // SAFETY: `lockable` proved that these bytes are guest RAM that may be written.
            let old = unsafe { locked::update::<W>(place, |_| new) };
            cpu.regs.set(at.src, old);
        }
        None => attempt!(
            cpu,
            at,
            cpu.modify::<W>(at, |cpu, old| {
                cpu.regs.set(at.src, old);
                new
            })
        ),
    }
    at.next(cpu)
}

/// A value in two registers of width `W`, as the pairs take it.
#[inline(always)]
fn pair(cpu: &Cpu, high: Reg, low: Reg) -> u128 {
    u128::from(cpu.regs.get::<u64>(high)) << 64 | u128::from(cpu.regs.get::<u64>(low))
}

#[inline(always)]
fn half_pair(cpu: &Cpu, high: Reg, low: Reg) -> u64 {
    u64::from(cpu.regs.get::<u32>(high)) << 32 | u64::from(cpu.regs.get::<u32>(low))
}

/// Of the six flags a pair changes ZF only.
#[inline(always)]
fn set_equal(flags: Flags, is_equal: bool) -> Flags {
    let mut flags = flags;
    flags.set_zf(is_equal);
    flags
}

/// `cmpxchg8b m`, locked or not.
pub fn compare_eight(cpu: &mut Cpu, at: At) -> Next {
    let (expected, new) = (half_pair(cpu, Reg::RDX, Reg::RAX), half_pair(cpu, Reg::RCX, Reg::RBX));
    let mut found = expected;
    match attempt!(cpu, at, cpu.lockable(at, 8)) {
        Some(place) => {
            // SAFETY: `lockable` proved that these bytes are guest RAM that may be written.
            found = unsafe { locked::compare_exchange(place, expected, new) };
        }
        None => attempt!(
            cpu,
            at,
            cpu.modify::<u64>(at, |_, old| {
                found = old;
                if old == expected { new } else { old }
            })
        ),
    }
    cpu.flags = set_equal(cpu.flags, found == expected);
    if found != expected {
        cpu.regs.set(Reg::RAX, found as u32);
        cpu.regs.set(Reg::RDX, (found >> 32) as u32);
    }
    at.next(cpu)
}

/// `cmpxchg16b m`, locked or not. The address must be a multiple of 16.
pub fn compare_sixteen(cpu: &mut Cpu, at: At) -> Next {
    let (expected, new) = (pair(cpu, Reg::RDX, Reg::RAX), pair(cpu, Reg::RCX, Reg::RBX));
    let found = attempt!(cpu, at, exchange_sixteen(cpu, at, expected, new));
    cpu.flags = set_equal(cpu.flags, found == expected);
    if found != expected {
        cpu.regs.set(Reg::RAX, found as u64);
        cpu.regs.set(Reg::RDX, (found >> 64) as u64);
    }
    at.next(cpu)
}

fn exchange_sixteen(cpu: &mut Cpu, at: At, expected: u128, new: u128) -> Result<u128, Raised> {
    if cpu.address(at, 16, true)? & 15 != 0 {
        return Err(cpu.fault(Exception::gp(0)));
    }
    if let Some(place) = cpu.lockable(at, 16)? {
        // SAFETY: `lockable` proved that these bytes are guest RAM that may be written; they are aligned, for pages are.
        return Ok(unsafe { locked::compare_exchange_pair(place, expected, new) });
    }
    let found = cpu.read_u128(at)?;
    cpu.write_u128(at, if found == expected { new } else { found })?;
    Ok(found)
}
