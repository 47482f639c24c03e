//! Open-file-description locks on single bytes, as image files are locked in this field.
//!
//! The lock belongs to the open file description: it is freed when the last duplicate is closed,
//! and it can be asked about by another description with `F_OFD_GETLK`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Kind of a byte lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Many may hold it.
    Shared,
    /// One may hold it.
    Exclusive,
}

fn flock(kind: libc::c_int, start: u64, len: u64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start as libc::off_t,
        l_len: len as libc::off_t,
        l_pid: 0,
    }
}

fn raw(kind: LockKind) -> libc::c_int {
    match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    }
}

/// Takes a lock on `len` bytes at `start`; `Ok(false)` if another description holds a conflicting one.
pub fn try_lock(fd: impl AsFd, kind: LockKind, start: u64, len: u64) -> io::Result<bool> {
    let lock = flock(raw(kind), start, len);
    // SAFETY: `lock` outlives the call.
    let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if result == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        error => Err(error),
    }
}

/// Gives back `len` bytes at `start`.
pub fn unlock(fd: impl AsFd, start: u64, len: u64) -> io::Result<()> {
    let lock = flock(libc::F_UNLCK, start, len);
    // SAFETY: `lock` outlives the call.
    match unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a lock of this kind would be refused because of another description's.
pub fn is_blocked(fd: impl AsFd, kind: LockKind, start: u64, len: u64) -> io::Result<bool> {
    let mut lock = flock(raw(kind), start, len);
    // SAFETY: `lock` outlives the call and is written by it.
    let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn two_descriptions_exclude_each_other_until_one_closes() {
        let path = std::env::temp_dir().join(format!("bulkhead-lock-{}", std::process::id()));
        let a = File::create(&path).unwrap();
        let b = File::options().read(true).write(true).open(&path).unwrap();
        assert!(try_lock(&a, LockKind::Exclusive, 100, 1).unwrap());
        assert!(!try_lock(&b, LockKind::Shared, 100, 1).unwrap());
        assert!(is_blocked(&b, LockKind::Exclusive, 100, 1).unwrap());
        assert!(try_lock(&b, LockKind::Exclusive, 101, 1).unwrap());
        drop(a);
        assert!(try_lock(&b, LockKind::Exclusive, 100, 1).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
