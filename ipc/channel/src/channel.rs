//! One end of a channel.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_sys::clock::Deadline;
use bulkhead_sys::seqpacket::{self, MAX_FDS};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, CodecError};

/// Longest datagram in bytes.
pub const MAX_MESSAGE: usize = codec::LIMIT;

/// Something that can be sent on a channel.
pub trait Message: Serialize + DeserializeOwned {
    /// How many descriptors accompany this very message; both sides compute it from the content.
    fn fd_count(&self) -> usize {
        0
    }
}

/// What can go wrong on a channel. All but `Host` and `TooMany` blame the peer.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer closed its end.
    #[error("the peer has closed the channel")]
    Closed,
    /// Nothing came, or no room was made, before the deadline.
    #[error("the peer did not answer in time")]
    Deadline,
    /// The datagram is longer than any message.
    #[error("the peer sent more than a message may hold")]
    Oversized,
    /// The number of descriptors is not the message's.
    #[error("the peer sent {found} descriptors with a message that has {expected}")]
    Descriptors {
        /// Descriptors that came.
        found: usize,
        /// Descriptors the message has.
        expected: usize,
    },
    /// More descriptors than a message can carry.
    #[error("the message needs {0} descriptors, and {MAX_FDS} are the most")]
    TooMany(usize),
    /// The bytes are no message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The kernel refused.
    #[error("channel: {0}")]
    Host(io::Error),
}

impl ChannelError {
    /// Whether the message itself cannot be sent, to nobody: the peer has nothing to do with it.
    pub fn is_of_the_message(&self) -> bool {
        matches!(self, Self::TooMany(_) | Self::Codec(CodecError::Encode(_)))
    }
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Deadline,
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected => Self::Closed,
            _ => Self::Host(error),
        }
    }
}

thread_local! {
    /// Where datagrams are received: kept, because to clear so many bytes costs more than the call. A
    /// message sees as much of it as the kernel wrote for it.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Receives by `receive` into this thread's buffer.
fn into_buffer<M: Message>(
    receive: impl FnOnce(&mut [u8]) -> io::Result<seqpacket::Datagram>,
) -> Result<(M, Vec<OwnedFd>), ChannelError> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(MAX_MESSAGE, 0);
        let datagram = receive(buffer)?;
        accept(buffer, datagram)
    })
}

/// One end of a channel: a connected `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Takes a socket that the plan says is a channel.
    pub fn from_fd(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// A connected pair.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = seqpacket::pair()?;
        Ok((Self(a), Self(b)))
    }

    /// The socket, to hand it to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Sends without waiting; `Deadline` if the peer's queue is full.
    pub fn send<M: Message>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let bytes = prepare(message, fds)?;
        match seqpacket::send(self.0.as_fd(), &bytes, fds) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ChannelError::Deadline),
            other => Ok(other?),
        }
    }

    /// Sends, waiting for room until `deadline`.
    pub fn send_by<M: Message>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<(), ChannelError> {
        let bytes = prepare(message, fds)?;
        Ok(seqpacket::send_by(self.0.as_fd(), &bytes, fds, deadline)?)
    }

    /// Takes the next message if one is there.
    pub fn try_receive<M: Message>(&self) -> Result<Option<(M, Vec<OwnedFd>)>, ChannelError> {
        match into_buffer(|buffer| seqpacket::receive(self.0.as_fd(), buffer)) {
            Err(ChannelError::Host(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    /// Takes the next message, waiting for it until `deadline`.
    pub fn receive_by<M: Message>(
        &self,
        deadline: Deadline,
    ) -> Result<(M, Vec<OwnedFd>), ChannelError> {
        into_buffer(|buffer| seqpacket::receive_by(self.0.as_fd(), buffer, deadline))
    }

    /// Sends `question` and waits for the answer. For callers that may wait: never the supervisor
    /// towards a helper, never core.
    pub fn call<Q: Message, A: Message>(
        &self,
        question: &Q,
        fds: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<(A, Vec<OwnedFd>), ChannelError> {
        self.send_by(question, fds, deadline)?;
        self.receive_by(deadline)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn prepare<M: Message>(message: &M, fds: &[BorrowedFd<'_>]) -> Result<Vec<u8>, ChannelError> {
    let (found, expected) = (fds.len(), message.fd_count());
    if found != expected {
        return Err(ChannelError::Descriptors { found, expected });
    }
    // The receiver could not tell what it lacks.
    if found > MAX_FDS {
        return Err(ChannelError::TooMany(found));
    }
    Ok(codec::encode(message)?)
}

fn accept<M: Message>(
    buffer: &[u8],
    datagram: seqpacket::Datagram,
) -> Result<(M, Vec<OwnedFd>), ChannelError> {
    if datagram.len == 0 && datagram.fds.is_empty() {
        return Err(ChannelError::Closed);
    }
    if datagram.truncated {
        return Err(ChannelError::Oversized);
    }
    let bytes = buffer.get(..datagram.len).ok_or(ChannelError::Oversized)?;
    let message: M = codec::decode(bytes)?;
    let (found, expected) = (datagram.fds.len(), message.fd_count());
    if found != expected {
        return Err(ChannelError::Descriptors { found, expected });
    }
    Ok((message, datagram.fds))
}
