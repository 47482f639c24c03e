//! Waiting for a handful of descriptors in one call, without a poller.
//!
//! For threads that wait for the same two or three descriptors all their life: a block layer's lanes
//! and executor. One system call (`ppoll`), nothing registered, nothing allocated.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::time::TimeSpec;

/// Waits until one of `fds` can be read or has hung up, at most `timeout` (`None`: for ever), and
/// says which. All `false`: the time is over, or a signal came.
pub fn wait_readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut set = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match ppoll(&mut set, timeout.map(TimeSpec::from), None) {
        Ok(_) => Ok(set.map(|fd| fd.any().unwrap_or(true))),
        Err(Errno::EINTR) => Ok([false; N]),
        Err(error) => Err(error.into()),
    }
}

/// A descriptor of those that [`wait_any`] waits for.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'a> {
    fd: BorrowedFd<'a>,
    room: bool,
}

impl<'a> Watch<'a> {
    /// Until it can be read or has hung up; with `room` also until it can be written.
    pub fn new(fd: &'a impl AsFd, room: bool) -> Self {
        Self { fd: fd.as_fd(), room }
    }
}

/// Waits until one of `watched` is as it is to be, at most `timeout` (`None`: for ever), and says which. All
/// `false`: the time is over, or a signal came.
pub fn wait_any(watched: &[Watch<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let wanted =
        |room| if room { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let mut set: Vec<_> =
        watched.iter().map(|watch| PollFd::new(watch.fd, wanted(watch.room))).collect();
    match ppoll(&mut set, timeout.map(TimeSpec::from), None) {
        Ok(_) => Ok(set.iter().map(|fd| fd.any().unwrap_or(true)).collect()),
        Err(Errno::EINTR) => Ok(vec![false; watched.len()]),
        Err(error) => Err(error.into()),
    }
}

/// Whether `fd` has room for a write at this moment. A pipe that says so takes `PIPE_BUF` (4096)
/// bytes without blocking.
pub fn is_writable(fd: impl AsFd) -> bool {
    let mut set = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    let answered = poll(&mut set, PollTimeout::ZERO) == Ok(1);
    answered && set[0].revents().is_some_and(|news| news.contains(PollFlags::POLLOUT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventfd::Doorbell;

    #[test]
    fn the_descriptor_with_news_is_named() {
        let (quiet, rung) = (Doorbell::new().unwrap(), Doorbell::new().unwrap());
        rung.ring();
        let news = wait_readable([quiet.as_fd(), rung.as_fd()], None).unwrap();
        assert_eq!(news, [false, true]);
    }

    #[test]
    fn silence_ends_with_the_time_out() {
        let quiet = Doorbell::new().unwrap();
        let news = wait_readable([quiet.as_fd()], Some(Duration::from_millis(1))).unwrap();
        assert_eq!(news, [false]);
    }
}
