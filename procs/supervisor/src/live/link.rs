//! A channel to another process that never makes the supervisor wait.
//!
//! Used for the session, the launcher and every helper. What the peer's queue does not take waits
//! here, in order, up to a limit; a peer that lets the limit be reached does not listen, and that is
//! its fault.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_channel::{Channel, ChannelError, Message};

/// Messages that wait for one peer.
const LONGEST_QUEUE: usize = 64;

/// A message that waits, with duplicates of its descriptors.
type Letter = Box<dyn Fn(&Channel) -> Result<(), ChannelError>>;

/// One end of a channel and what waits to be sent on it.
pub struct Link {
    channel: Channel,
    waiting: VecDeque<Letter>,
}

impl Link {
    /// A link over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self { channel, waiting: VecDeque::new() }
    }

    /// Sends, now or when the peer has room. An error means that the peer is gone or does not listen.
    pub fn send<M>(&mut self, message: M, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError>
    where
        M: Message + 'static,
    {
        if self.waiting.is_empty() {
            match self.channel.send(&message, fds) {
                Err(ChannelError::Deadline) => {}
                other => return other,
            }
        }
        if self.waiting.len() >= LONGEST_QUEUE {
            return Err(ChannelError::Deadline);
        }
        let owned: Result<Vec<OwnedFd>, _> = fds.iter().map(|fd| fd.try_clone_to_owned()).collect();
        let owned = owned?;
        self.waiting.push_back(Box::new(move |channel| {
            let fds: Vec<BorrowedFd<'_>> = owned.iter().map(AsFd::as_fd).collect();
            channel.send(&message, &fds)
        }));
        Ok(())
    }

    /// Sends what waits, as far as the peer has room.
    pub fn flush(&mut self) -> Result<(), ChannelError> {
        while let Some(letter) = self.waiting.front() {
            match letter(&self.channel) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(ChannelError::Deadline) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether something waits.
    pub fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether little enough waits that what may be lost should be sent.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < LONGEST_QUEUE / 2
    }

    /// Takes the next message if one is there.
    pub fn receive<M: Message>(&self) -> Result<Option<(M, Vec<OwnedFd>)>, ChannelError> {
        self.channel.try_receive()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.waiting.len();
        write!(f, "Link({:?}, {waiting} waiting)", self.channel.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_protocol::session::SessionEvent;

    fn text(number: usize) -> SessionEvent {
        SessionEvent::Plan(format!("{number}{}", "x".repeat(16_000)))
    }

    #[test]
    fn what_a_full_peer_does_not_take_arrives_later_and_in_order() {
        let (a, b) = Channel::pair().unwrap();
        let mut link = Link::new(a);
        let mut sent = 0;
        while !link.is_full() {
            link.send(text(sent), &[]).unwrap();
            sent += 1;
        }
        link.send(text(sent), &[]).unwrap();
        for number in 0..=sent {
            link.flush().unwrap();
            let (message, _) = b.try_receive::<SessionEvent>().unwrap().unwrap();
            assert_eq!(message, text(number));
        }
        assert!(!link.is_full());
    }

    #[test]
    fn a_peer_that_never_listens_is_an_error_in_the_end() {
        let (a, _b) = Channel::pair().unwrap();
        let mut link = Link::new(a);
        let error = (0..10_000).find_map(|number| link.send(text(number), &[]).err());
        assert!(matches!(error, Some(ChannelError::Deadline)));
    }
}
