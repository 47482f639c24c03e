//! Descriptors that were there when the process began.
//!
//! Called once by every process for its channel. A number is handed out once only, so that two
//! owners of one descriptor cannot come about.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers that were taken already, one bit each.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Takes the descriptor `number` (3 to 31) that the parent left open, and marks it close-on-exec.
///
/// To be called before the process opens descriptors of its own: afterwards the number might be
/// one of those.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if !(3..32).contains(&number) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: F_SETFD on a number; fails with EBADF if nothing is there.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let bit = 1 << number;
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: open, and handed out to nobody before.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from `first` (at least 4) on: what whoever started the process forgot to
/// mark close-on-exec is nobody's here.
///
/// To be called first of all, by a process whose parent is not one of ours.
pub fn close_others(first: RawFd) -> io::Result<()> {
    let first = u32::try_from(first.max(4)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a plain system call; nothing of this process has a descriptor yet.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_streams_and_closed_numbers_are_not_handed_out() {
        assert_eq!(take(2).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(take(31).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
