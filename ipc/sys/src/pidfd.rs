//! Processes by descriptor: no pid is ever reused under our hands.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::clock::Deadline;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It called `exit` with this status.
    Exited(i32),
    /// A signal killed it.
    Signaled(i32),
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signaled(number) => match Signal::try_from(*number) {
                Ok(signal) => f.write_str(signal.as_str()),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// A process held by descriptor.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process `pid`, which must be a child that is not reaped yet (or oneself).
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: a plain system call on numbers; it returns a new descriptor or an error.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        Self::from_result(fd)
    }

    /// Takes a descriptor that is known to be a pidfd.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor, to hand it to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    fn from_result(fd: libc::c_long) -> io::Result<Self> {
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sends a signal. A process that is gone already is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        let null = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a plain system call; a null siginfo is allowed.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as i32, null, 0) };
        match result {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Kills the process.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Waits until the process is dead, reaped or not.
    pub fn wait_dead(&self, deadline: Deadline) -> io::Result<()> {
        let mut set = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        loop {
            let timeout =
                PollTimeout::try_from(deadline.poll_timeout()).unwrap_or(PollTimeout::MAX);
            match poll(&mut set, timeout) {
                Ok(0) if deadline.has_passed() => return Err(io::ErrorKind::TimedOut.into()),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reaps the process if it is dead; `None` while it lives. Reaping is the fence: nothing that
    /// the process had in flight lands after it.
    pub fn reap(&self) -> io::Result<Option<Death>> {
        // SAFETY: siginfo_t is plain data for which zero is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = self.0.as_raw_fd() as libc::id_t;
        let flags = libc::WEXITED | libc::WNOHANG | libc::__WALL;
        // SAFETY: `info` outlives the call.
        let result = unsafe { libc::waitid(libc::P_PIDFD, id, &mut info, flags) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: waitid has filled the SIGCHLD fields, or left the zeroes.
        let pid = unsafe { info.si_pid() };
        if pid == 0 {
            return Ok(None);
        }
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        Ok(Some(match info.si_code {
            libc::CLD_EXITED => Death::Exited(status),
            _ => Death::Signaled(status),
        }))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_child_is_reaped_once_with_its_signal() {
        #[allow(clippy::zombie_processes, reason = "reaped through its pidfd, which is the test")]
        let child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pidfd = PidFd::open(child.id() as i32).unwrap();
        assert_eq!(pidfd.reap().unwrap(), None);
        pidfd.kill().unwrap();
        let death = loop {
            if let Some(death) = pidfd.reap().unwrap() {
                break death;
            }
            std::thread::yield_now();
        };
        assert_eq!(death, Death::Signaled(libc::SIGKILL));
        assert_eq!(death.to_string(), "SIGKILL");
        assert!(pidfd.reap().is_err());
    }
}
