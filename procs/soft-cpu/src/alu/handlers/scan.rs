//! A register from a register or memory: BSF BSR TZCNT LZCNT POPCNT, BSWAP, MOVBE, CRC32.

use crate::alu::{Wide, Word, bits};
use crate::attempt;
use crate::cpu::Cpu;
use crate::op::{At, Next};
use crate::state::Flags;

/// A scan or count.
pub trait Scan {
    /// The whole target register, and flags.
    fn run<W: Wide>(source: W, target: u64, before: Flags) -> (u64, Flags);
}

/// BSF.
pub struct Bsf;
impl Scan for Bsf {
    #[inline(always)]
    fn run<W: Wide>(source: W, target: u64, before: Flags) -> (u64, Flags) {
        source.bsf(target, before)
    }
}

/// BSR.
pub struct Bsr;
impl Scan for Bsr {
    #[inline(always)]
    fn run<W: Wide>(source: W, target: u64, before: Flags) -> (u64, Flags) {
        source.bsr(target, before)
    }
}

macro_rules! counts {
    ($($name:ident $function:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ".")]
            pub struct $name;
            impl Scan for $name {
                #[inline(always)]
                fn run<W: Wide>(source: W, target: u64, _before: Flags) -> (u64, Flags) {
                    let (value, flags) = source.$function();
                    let kept = if W::BYTES == 2 { target & !0xffff } else { 0 };
                    (kept | value.zero_extend(), flags)
                }
            }
        )*
    };
}
counts! { Tzcnt tzcnt Lzcnt lzcnt Popcnt popcnt }

#[inline(always)]
fn scan<O: Scan, W: Wide>(cpu: &mut Cpu, at: At, source: W) -> Next {
    let (value, flags) = O::run(source, cpu.regs.get(at.dst), cpu.flags);
    cpu.regs.set::<u64>(at.dst, value);
    cpu.flags = flags;
    at.next(cpu)
}

/// `op r, r`.
pub fn register<O: Scan, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let source = cpu.regs.get(at.src);
    scan::<O, W>(cpu, at, source)
}

/// `op r, m`.
pub fn memory<O: Scan, W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, cpu.read(at));
    scan::<O, W>(cpu, at, source)
}

/// `bswap r`. Of 16 bits it is undefined, and current CPUs clear them.
pub fn bswap<W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let value =
        if W::BYTES == 2 { W::truncate(0) } else { cpu.regs.get::<W>(at.dst).bytes_swapped() };
    cpu.regs.set(at.dst, value);
    at.next(cpu)
}

/// `movbe r, m`.
pub fn movbe_load<W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let value = attempt!(cpu, at, cpu.read::<W>(at));
    cpu.regs.set(at.dst, value.bytes_swapped());
    at.next(cpu)
}

/// `movbe m, r`.
pub fn movbe_store<W: Wide>(cpu: &mut Cpu, at: At) -> Next {
    let value = cpu.regs.get::<W>(at.src).bytes_swapped();
    attempt!(cpu, at, cpu.write(at, value));
    at.next(cpu)
}

#[inline(always)]
fn sum<W: Word>(cpu: &mut Cpu, at: At, source: W) -> Next {
    let sum = bits::crc32(cpu.regs.get(at.dst), source.zero_extend(), W::BYTES);
    cpu.regs.set(at.dst, sum);
    at.next(cpu)
}

/// `crc32 r, r`.
pub fn crc32_register<W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let source = cpu.regs.get(at.src);
    sum::<W>(cpu, at, source)
}

/// `crc32 r, m`.
pub fn crc32_memory<W: Word>(cpu: &mut Cpu, at: At) -> Next {
    let source = attempt!(cpu, at, cpu.read(at));
    sum::<W>(cpu, at, source)
}
