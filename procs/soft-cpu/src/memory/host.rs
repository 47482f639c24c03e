//! Loads and stores of guest RAM, each by one host instruction.
//!
//! The guest's other processors and the device processes write at the same time: to Rust that would be
//! a data race, to the processor it is the guest's own memory model, which is the host's. Hence `asm!`.

use std::arch::asm;

use crate::width::Width;

/// Reads a `W`.
///
/// # Safety
/// `at` must point to `W::BYTES` bytes of mapped guest RAM.
#[inline(always)]
pub unsafe fn load<W: Width>(at: *const u8) -> W {
    let value: u64;
    match W::BYTES {
        // SAFETY: the caller's promise.
        1 => unsafe {
            asm!("movzx {0:e}, byte ptr [{1}]", out(reg) value, in(reg) at,
                 options(nostack, preserves_flags, readonly))
        },
        // SAFETY: the caller's promise.
        2 => unsafe {
            asm!("movzx {0:e}, word ptr [{1}]", out(reg) value, in(reg) at,
                 options(nostack, preserves_flags, readonly))
        },
        // SAFETY: the caller's promise.
        4 => unsafe {
            asm!("mov {0:e}, dword ptr [{1}]", out(reg) value, in(reg) at,
                 options(nostack, preserves_flags, readonly))
        },
        // SAFETY: the caller's promise.
        _ => unsafe {
            asm!("mov {0}, qword ptr [{1}]", out(reg) value, in(reg) at,
                 options(nostack, preserves_flags, readonly))
        },
    }
    W::truncate(value)
}

/// Writes a `W`.
///
/// # Safety
/// `at` must point to `W::BYTES` bytes of guest RAM mapped for writing.
#[inline(always)]
pub unsafe fn store<W: Width>(at: *mut u8, value: W) {
    let value = value.zero_extend();
    match W::BYTES {
        // SAFETY: the caller's promise.
        1 => unsafe {
            asm!("mov byte ptr [{1}], {0}", in(reg_byte) value as u8, in(reg) at,
                 options(nostack, preserves_flags))
        },
        // SAFETY: the caller's promise.
        2 => unsafe {
            asm!("mov word ptr [{1}], {0:x}", in(reg) value, in(reg) at,
                 options(nostack, preserves_flags))
        },
        // SAFETY: the caller's promise.
        4 => unsafe {
            asm!("mov dword ptr [{1}], {0:e}", in(reg) value, in(reg) at,
                 options(nostack, preserves_flags))
        },
        // SAFETY: the caller's promise.
        _ => unsafe {
            asm!("mov qword ptr [{1}], {0}", in(reg) value, in(reg) at,
                 options(nostack, preserves_flags))
        },
    }
}

/// Copies bytes out of guest RAM.
///
/// # Safety
/// `from` must point to `into.len()` bytes of mapped guest RAM.
pub unsafe fn copy_in(from: *const u8, into: &mut [u8]) {
    // SAFETY: the caller's promise; the destination is a slice of the same length.
    unsafe { copy(into.as_mut_ptr(), from, into.len()) }
}

/// Copies bytes into guest RAM.
///
/// # Safety
/// `to` must point to `from.len()` bytes of guest RAM mapped for writing.
pub unsafe fn copy_out(to: *mut u8, from: &[u8]) {
    // SAFETY: the caller's promise; the source is a slice of the same length.
    unsafe { copy(to, from.as_ptr(), from.len()) }
}

/// `rep movsb`, upwards: also the guest's own semantics where the two overlap.
///
/// # Safety
/// Both must be mapped for `count` bytes, `to` for writing.
#[inline]
pub unsafe fn copy(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's promise; the direction flag is clear in Rust code.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags))
    }
}
