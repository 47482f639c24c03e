//! How malloc grows, fitted to a sealed process.
//!
//! glibc gives each thread an arena of its own, which costs a mapping of 64 MiB of addresses and
//! some resident pages each, and needs `mprotect` to grow. One arena needs `brk` and `mmap` only.

/// Makes all threads share one heap. To be called before the first thread is made.
pub fn share_one() {
    // SAFETY: sets a number of the allocator; a failure leaves it as it was.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
