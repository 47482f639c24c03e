//! Waiting for many descriptors at once: epoll with tokens.
//!
//! One poller belongs to one thread's event loop. Level-triggered, so that an event that was not
//! handled comes again instead of being lost.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What an event loop calls one of its descriptors.
pub type Token = u64;

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or the peer hung up.
    Read,
    /// Room to write.
    Write,
    /// Either.
    ReadWrite,
    /// Only hang-up and error.
    HangUp,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
            Self::Write => EpollFlags::EPOLLOUT,
            Self::ReadWrite => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
            Self::HangUp => EpollFlags::EPOLLRDHUP,
        }
    }
}

/// One descriptor's news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The token it was added with.
    pub token: Token,
    /// There is something to read (or an end of file).
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The peer is gone or the descriptor is broken.
    pub hung_up: bool,
}

/// An epoll instance. Clones are the same instance: whoever owns a descriptor on it may change what
/// it is watched for.
#[derive(Debug, Clone)]
pub struct Poller(Arc<Epoll>);

/// Events taken per wait; more simply come with the next one.
const BATCH: usize = 32;

impl Poller {
    /// A poller that watches nothing yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?)))
    }

    /// Watches `fd`; its events carry `token`.
    pub fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(interest.flags(), token))?)
    }

    /// Changes what `fd` is watched for.
    pub fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        let mut event = EpollEvent::new(interest.flags(), token);
        Ok(self.0.modify(fd, &mut event)?)
    }

    /// Stops watching `fd`. To be called before it is closed if a duplicate lives elsewhere.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(fd)?)
    }

    /// Waits for events, at most `timeout` (`None`: for ever), and appends them to `out`.
    /// A signal ends the wait with no events.
    pub fn wait(&self, timeout: Option<Duration>, out: &mut Vec<Event>) -> io::Result<()> {
        let mut raw = [EpollEvent::empty(); BATCH];
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            Some(time) => {
                EpollTimeout::try_from(time.as_micros().div_ceil(1000)).unwrap_or(EpollTimeout::MAX)
            }
        };
        let count = match self.0.wait(&mut raw, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        out.extend(raw.iter().take(count).map(|raw| {
            let flags = raw.events();
            Event {
                token: raw.data(),
                readable: flags.intersects(EpollFlags::EPOLLIN),
                writable: flags.intersects(EpollFlags::EPOLLOUT),
                hung_up: flags.intersects(
                    EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLERR,
                ),
            }
        }));
        Ok(())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventfd::Doorbell;

    #[test]
    fn a_rung_doorbell_is_an_event_with_its_token() {
        let poller = Poller::new().unwrap();
        let bell = Doorbell::new().unwrap();
        poller.add(&bell, 7, Interest::Read).unwrap();
        let mut events = Vec::new();
        poller.wait(Some(Duration::ZERO), &mut events).unwrap();
        assert!(events.is_empty());
        bell.ring();
        poller.wait(Some(Duration::ZERO), &mut events).unwrap();
        assert_eq!(events.len(), 1);
        assert!(events[0].token == 7 && events[0].readable && !events[0].hung_up);
    }
}
