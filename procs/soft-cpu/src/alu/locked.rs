//! Atomic changes of guest RAM: what the LOCK prefix means.
//!
//! One mechanism for every locked instruction: load, compute as the plain instruction does, `lock cmpxchg`, and again if
//! somebody was faster. The host's instruction takes any address within a cache line, aligned or not, so the guest's memory model
//! is the host's. Accesses that cross a cache line never come here.

use crate::memory::host;
use crate::width::Width;
use core::arch::asm;

/// Replaces what is at `place` by what `change` makes of it, in one step; returns what was there.
///
/// # Safety
/// `place` must point to `W::BYTES` bytes of guest RAM mapped for writing.
#[inline(always)]
pub unsafe fn update<W: Width>(place: *mut u8, mut change: impl FnMut(W) -> W) -> W {
    // SAFETY: the caller's promise.
    let mut seen: W = unsafe { host::load(place) };
    loop {
        let new = change(seen);
        // SAFETY: the caller's promise.
        let found = unsafe { compare_exchange(place, seen, new) };
        if found == seen {
            return found;
        }
        seen = found;
    }
}

/// `lock cmpxchg`: writes `new` if `expected` is there; returns what was there.
///
/// # Safety
/// `place` must point to `W::BYTES` bytes of guest RAM mapped for writing.
#[inline(always)]
pub unsafe fn compare_exchange<W: Width>(place: *mut u8, expected: W, new: W) -> W {
    let mut rax = expected.zero_extend();
    let new = new.zero_extend();
    match W::BYTES {
        // SAFETY: the caller's promise.
        1 => unsafe {
            asm!("lock cmpxchg byte ptr [{0}], {1}", in(reg) place, in(reg_byte) new as u8, inout("rax") rax, options(nostack))
        },
        // SAFETY: the caller's promise.
        2 => unsafe {
            asm!("lock cmpxchg word ptr [{0}], {1:x}", in(reg) place, in(reg) new, inout("rax") rax, options(nostack))
        },
        // SAFETY: the caller's promise.
        4 => unsafe {
            asm!("lock cmpxchg dword ptr [{0}], {1:e}", in(reg) place, in(reg) new, inout("rax") rax, options(nostack))
        },
        // SAFETY: the caller's promise.
        _ => unsafe {
            asm!("lock cmpxchg qword ptr [{0}], {1}", in(reg) place, in(reg) new, inout("rax") rax, options(nostack))
        },
    }
    W::truncate(rax)
}

/// `lock cmpxchg16b`: writes `new` if `expected` is there; returns what was there.
///
/// # Safety
/// `place` must point to 16 bytes of guest RAM mapped for writing, and be a multiple of 16.
pub unsafe fn compare_exchange_pair(place: *mut u8, expected: u128, new: u128) -> u128 {
    let (mut low, mut high) = (expected as u64, (expected >> 64) as u64);
    // SAFETY: the caller's promise. RBX is the compiler's own, so it is put back.
    unsafe {
        asm!("xchg {new_low}, rbx", "lock cmpxchg16b [{0}]", "mov rbx, {new_low}", in(reg) place,
            new_low = inout(reg) new as u64 => _, in("rcx") (new >> 64) as u64, inout("rax") low, inout("rdx") high,
            options(nostack));
    }
    u128::from(low) | u128::from(high) << 64
}
