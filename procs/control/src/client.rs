//! One client's connection.
//!
//! ```text
//!  Greeting --Hello--> Idle --request--> Waiting --answer--> Idle
//!      |                                    |
//!      '-- until --> gone                   '-- until --> Idle, refused
//! ```
//!
//! While it waits for an answer nothing is read from it: a client has one request at a time, and what
//! it sends meanwhile stays in its own socket. Idling has no end; people look at consoles for days.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bulkhead_channel::{Channel, ChannelError};
use bulkhead_protocol::control::{Request, Response};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::Interest;

/// How long a connection may say nothing before its hello.
pub const GREETING: Duration = Duration::from_secs(5);

/// How long the supervisor may take. It blocks on nobody, so that this passes only if it is stopped.
pub const ANSWER: Duration = Duration::from_secs(10);

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Has not said hello.
    Greeting {
        /// It is dropped then.
        until: Deadline,
    },
    /// May ask.
    Idle,
    /// Has asked.
    Waiting {
        /// Number of the call.
        call: u64,
        /// It is told that no answer came then.
        until: Deadline,
    },
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    /// Where it stands.
    pub state: State,
    /// Whether it is sent events.
    pub follows: bool,
}

impl Client {
    /// A connection that was just accepted.
    pub fn new(channel: Channel) -> Self {
        let until = Deadline::after(GREETING);
        Self { channel, state: State::Greeting { until }, follows: false }
    }

    /// Its next request, if it has sent one.
    pub fn take(&self) -> Result<Option<Request>, ChannelError> {
        Ok(self.channel.try_receive()?.map(|(request, _)| request))
    }

    /// Sends without waiting. A client that left no room is an error: it is too slow to be served.
    pub fn send(&self, response: &Response, fds: &[OwnedFd]) -> Result<(), ChannelError> {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.channel.send(response, &fds)
    }

    /// What its socket is watched for.
    pub fn interest(&self) -> Interest {
        match self.state {
            State::Greeting { .. } | State::Idle => Interest::Read,
            State::Waiting { .. } => Interest::HangUp,
        }
    }

    /// When its state ends by itself.
    pub fn until(&self) -> Option<Deadline> {
        match self.state {
            State::Greeting { until } | State::Waiting { until, .. } => Some(until),
            State::Idle => None,
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
