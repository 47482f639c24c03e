//! How malloc grows, fitted to a sealed process.
//!
//! glibc gives each thread an arena of its own, which costs a mapping of 64 MiB of addresses and
//! some resident pages each, and needs `mprotect` to grow; and it gives each large block a mapping of
//! its own, which needs `mremap`. One heap in one piece needs `brk` alone, and `mmap` where the piece
//! cannot grow.

/// Makes all threads share one heap, large blocks included. To be called before the first thread is
/// made.
pub fn share_one() {
    for (option, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_MAX, 0)] {
        // SAFETY: sets a number of the allocator; a failure leaves it as it was.
        let _ = unsafe { libc::mallopt(option, value) };
    }
}
