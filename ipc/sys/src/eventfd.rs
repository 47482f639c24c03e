//! Eventfds as doorbells.
//!
//! `EFD_NONBLOCK` lives in the open file description, which a peer shares and can change, so it is no
//! defence: a process that others depend on uses [`Doorbell::ring_if_quiet`], which polls first and
//! so cannot be made to block by a counter that the peer has filled, nor by a peer that never reads.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// One end of an eventfd: rung by one side, cleared by the other.
#[derive(Debug)]
pub struct Doorbell(OwnedFd);

impl Doorbell {
    /// A new doorbell, nonblocking and close-on-exec.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self(event.into()))
    }

    /// Takes a descriptor that the plan says is an eventfd.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// A second descriptor for the same doorbell.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Adds one. A full counter means that the peer has been told already, so it is no error.
    pub fn ring(&self) {
        let _ = nix::unistd::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Adds one only if that cannot block, whatever the peer did to the counter or its flags.
    pub fn ring_if_quiet(&self) {
        let mut set = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut set, PollTimeout::ZERO) == Ok(1) {
            self.ring();
        }
    }

    /// Whether anything was rung since; takes nothing.
    pub fn is_rung(&self) -> bool {
        let mut set = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut set, PollTimeout::ZERO) == Ok(1)
    }

    /// Takes what was rung since; `true` if there was anything.
    pub fn clear(&self) -> bool {
        let mut count = [0; 8];
        matches!(nix::unistd::read(&self.0, &mut count), Ok(8))
    }

    /// The descriptor, to hand it to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_seen_once() {
        let bell = Doorbell::new().unwrap();
        assert!(!bell.clear());
        assert!(!bell.is_rung());
        bell.ring();
        bell.ring();
        assert!(bell.is_rung());
        assert!(bell.clear());
        assert!(!bell.clear());
    }

    #[test]
    fn a_counter_filled_by_the_peer_blocks_nobody() {
        let bell = Doorbell::new().unwrap();
        let _ = nix::unistd::write(bell.as_fd(), &(u64::MAX - 1).to_ne_bytes());
        bell.ring_if_quiet();
        assert!(bell.clear());
    }
}
