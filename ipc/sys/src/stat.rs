//! What a descriptor names.
//!
//! glibc has made `fstat` by `newfstatat` in some versions and by `fstat` in others. A sealed process
//! may make one call and not two, and one that takes a path least of all; so it is made directly.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

/// `fstat`, and nothing else.
pub fn of(fd: impl AsFd) -> io::Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    let number = fd.as_fd().as_raw_fd();
    // SAFETY: on x86-64 libc's structure is the kernel's; it outlives the call.
    match unsafe { libc::syscall(libc::SYS_fstat, number, stat.as_mut_ptr()) } {
        // SAFETY: plain numbers for which zero is valid, and the kernel has filled them.
        0 => Ok(unsafe { stat.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}
