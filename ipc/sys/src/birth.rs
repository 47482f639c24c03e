//! How a process is made for a jail: clone, descriptors, exec. The jail itself is `policy/jail`.
//!
//! Law: the caller has one thread. Its child then is a faithful copy, in which ordinary code may
//! run; locks that another thread held would stay locked for ever.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::pidfd::PidFd;

/// Namespaces that only clone can give, not a later unshare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloneInto {
    /// A user namespace.
    pub user: bool,
    /// A pid namespace: the child is number 1 of it.
    pub pid: bool,
}

/// A process that was made.
#[derive(Debug)]
pub struct Born {
    /// Its pid as the caller sees it.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: PidFd,
}

/// Makes a sibling of the caller: a child of the caller's parent, which reaps it. `live` is the
/// child's whole life: it ends in an exec, or the child exits with status 1.
pub fn sibling(into: CloneInto, live: impl FnOnce()) -> io::Result<Born> {
    let mut flags = libc::CLONE_PARENT | libc::CLONE_PIDFD;
    if into.user {
        flags |= libc::CLONE_NEWUSER;
    }
    if into.pid {
        flags |= libc::CLONE_NEWPID;
    }
    let mut pidfd: RawFd = -1;
    let no_stack = std::ptr::null_mut::<libc::c_void>();
    // Widened from an unsigned word: the kernel takes a long, and a filter looks at all of it.
    let flags = libc::c_ulong::from(flags.cast_unsigned());
    // SAFETY: without CLONE_VM the child has a copy of this memory; the stack stays the same one, as
    // after fork. `pidfd` is written in the parent.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, no_stack, &raw mut pidfd, 0, 0) };
    match pid {
        0 => {
            live();
            crate::process::exit_group(1)
        }
        -1 => Err(io::Error::last_os_error()),
        pid => {
            // SAFETY: the kernel has just made this descriptor for us.
            let pidfd = PidFd::from_fd(unsafe { OwnedFd::from_raw_fd(pidfd) });
            Ok(Born { pid: pid as i32, pidfd })
        }
    }
}

/// Descriptors 0 to 3 of a child.
#[derive(Debug, Clone, Copy)]
pub struct Standard<'a> {
    /// 0 and 1: `/dev/null`.
    pub null: BorrowedFd<'a>,
    /// 2: the log pipe.
    pub log: BorrowedFd<'a>,
    /// 3: the channel.
    pub channel: BorrowedFd<'a>,
}

/// The lowest number that none of the standard descriptors has.
const ABOVE: RawFd = 4;

/// Puts the standard descriptors into place and marks everything else close-on-exec. For a child
/// just before its exec: whoever owns descriptors 0 to 3 loses them. Returns `keep` under a number
/// that was out of the way.
pub fn arrange(standard: Standard<'_>, keep: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let keep = lift(keep)?;
    let null = lift(standard.null)?;
    let log = lift(standard.log)?;
    let channel = lift(standard.channel)?;
    for (source, target) in [(&null, 0), (&null, 1), (&log, 2), (&channel, 3)] {
        // SAFETY: the caller gives these numbers up.
        if unsafe { libc::dup2(source.as_raw_fd(), target) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: marks descriptors, closes none.
    match unsafe { libc::close_range(ABOVE as u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) } {
        0 => Ok(keep),
        _ => Err(io::Error::last_os_error()),
    }
}

fn lift(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(ABOVE))?;
    // SAFETY: F_DUPFD_CLOEXEC has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Becomes the program behind `binary`, with an empty environment. Comes back only with an error.
pub fn become_program(binary: impl AsFd, arguments: &[impl AsRef<CStr>]) -> io::Error {
    let mut vector: Vec<*const libc::c_char> =
        arguments.iter().map(|argument| argument.as_ref().as_ptr()).collect();
    vector.push(std::ptr::null());
    let environment = [std::ptr::null::<libc::c_char>()];
    let fd = binary.as_fd().as_raw_fd();
    // SAFETY: both vectors end in null and outlive the call, as do the strings they point to.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd,
            c"".as_ptr(),
            vector.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
