//! Many iterations of MOVS or STOS at once: the host's own string instructions on guest RAM.
//!
//! Only upwards, only within the pages that the TLB has at hand, and only where nobody can tell it from one iteration after
//! the other. Otherwise these say 0 and the caller takes one step, which also brings the pages to hand.

use core::arch::asm;

use super::cursor;
use crate::cpu::Cpu;
use crate::memory::host;
use crate::op::{AddressSize, At};
use crate::state::{Reg, SegmentName};
use crate::width::Width;

/// MOVS, `count` times or until a page ends.
#[inline(never)]
pub fn copy<W: Width>(cpu: &mut Cpu, at: At, count: u64) -> u64 {
    if cpu.goes_down() || !is_flat(cpu, at, at.shape.segment()) || !is_flat(cpu, at, ES) {
        return 0;
    }
    let Ok((source, _)) = cursor::source(cpu, at, W::BYTES) else { return 0 };
    let Ok(target) = cursor::target(cpu, at, W::BYTES, true) else { return 0 };
    let (Some((from, readable)), Some((to, writable))) =
        (cpu.readable_span(source), cpu.writable_span(target))
    else {
        return 0;
    };
    let count = count.min((readable.min(writable) / W::BYTES) as u64);
    // A target less than one element above the source reads what the element before it wrote: bytewise, that is another result.
    let distance = (to as usize).wrapping_sub(from as usize);
    if (1..W::BYTES).contains(&distance)
        || wraps(cpu, at, Reg::RSI, W::BYTES, count)
        || wraps(cpu, at, Reg::RDI, W::BYTES, count)
    {
        return 0;
    }
    // SAFETY: both spans are guest RAM, `to` writable, and at least this long.
    unsafe { host::copy(to, from, count as usize * W::BYTES) };
    cursor::advance(cpu, at, Reg::RSI, W::BYTES, count);
    cursor::advance(cpu, at, Reg::RDI, W::BYTES, count);
    count
}

/// STOS, `count` times or until the page ends.
#[inline(never)]
pub fn fill<W: Width>(cpu: &mut Cpu, at: At, count: u64) -> u64 {
    if cpu.goes_down() || !is_flat(cpu, at, ES) {
        return 0;
    }
    let Ok(target) = cursor::target(cpu, at, W::BYTES, true) else { return 0 };
    let Some((to, writable)) = cpu.writable_span(target) else { return 0 };
    let count = count.min((writable / W::BYTES) as u64);
    if wraps(cpu, at, Reg::RDI, W::BYTES, count) {
        return 0;
    }
    // SAFETY: the span is writable guest RAM and at least this long.
    unsafe { fill_host(to, cpu.regs.get::<W>(Reg::RAX), count as usize) };
    cursor::advance(cpu, at, Reg::RDI, W::BYTES, count);
    count
}

/// The segment of every target.
const ES: u8 = SegmentName::Es as u8;

/// Whether all offsets in a segment that address registers of this width can name are allowed if one is.
fn is_flat(cpu: &Cpu, at: At, segment: u8) -> bool {
    let segment = &cpu.segments[usize::from(segment % 6)];
    let is_whole = segment.base == 0 && segment.limit == u32::MAX;
    cpu.mode.is_long() || is_whole && at.shape.size() == AddressSize::Bits32
}

/// Whether an address register of 32 bits wraps around within `count` elements: then the linear addresses are not in a row.
fn wraps(cpu: &Cpu, at: At, register: Reg, bytes: usize, count: u64) -> bool {
    !at.shape.is_flat() && cursor::value(cpu, at, register) + count * bytes as u64 > 1 << 32
}

/// `rep stos`, upwards.
///
/// # Safety
/// `to` must point to `count` elements of guest RAM mapped for writing.
unsafe fn fill_host<W: Width>(to: *mut u8, value: W, count: usize) {
    macro_rules! fill {
        ($mnemonic:literal) => {
            // SAFETY: the caller's promise; the direction flag is clear in Rust code.
            unsafe {
                asm!($mnemonic, in("rax") value.zero_extend(), inout("rdi") to => _, inout("rcx") count => _,
                    options(nostack, preserves_flags))
            }
        };
    }
    match W::BYTES {
        1 => fill!("rep stosb"),
        2 => fill!("rep stosw"),
        4 => fill!("rep stosd"),
        _ => fill!("rep stosq"),
    }
}
