//! The program's own pages.

use std::ffi::c_void;

unsafe extern "C" {
    /// First byte of the program's first segment; made by the linker.
    static __executable_start: u8;
    /// First byte after its instructions; made by the linker.
    static etext: u8;
}

/// Unmaps the pages of constants and instructions that the start has touched. They stay in the page
/// cache, and those that are needed again come back by a fault each; a process that waits for most
/// of its life needs few of them.
///
/// Only what was never written is given back: data and relocated constants lie behind `etext`.
pub fn give_back() {
    let start = &raw const __executable_start as usize;
    let end = &raw const etext as usize;
    let whole_pages = (end & !4095).saturating_sub(start);
    // SAFETY: the pages are private, clean and backed by the program's file, so that dropping them
    // changes no byte. A failure leaves them where they are.
    let _ = unsafe { libc::madvise(start as *mut c_void, whole_pages, libc::MADV_DONTNEED) };
}
