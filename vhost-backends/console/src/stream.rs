//! The stream socket, watched for exactly what is wanted of it.
//!
//! Watching is level-triggered, so bytes that nobody takes and an end that nobody can mend would keep
//! the thread awake: the wish is said anew whenever it changes, and what cannot change any more is not
//! watched.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_sys::poller::{Interest, Poller, Token};
use bulkhead_sys::seqpacket;

/// The console's stream.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    watcher: Option<(Poller, Token)>,
    watched: Option<Interest>,
    /// Nothing more will come than what is in the stream; the other end may still listen.
    input_over: bool,
    /// The other end is gone: what the guest writes goes nowhere, as on a cable that was pulled.
    gone: bool,
}

impl Stream {
    /// Takes the socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, watcher: None, watched: None, input_over: false, gone: false }
    }

    /// Begins to watch it.
    pub fn watch(&mut self, poller: &Poller, token: Token) -> io::Result<()> {
        self.watcher = Some((poller.clone(), token));
        self.want(true, false)
    }

    /// Says what is wanted from now on.
    pub fn want(&mut self, read: bool, write: bool) -> io::Result<()> {
        let wish = match (read && !self.input_over, write) {
            _ if self.gone => None,
            (true, true) => Some(Interest::ReadWrite),
            (true, false) => Some(Interest::Read),
            (false, true) => Some(Interest::Write),
            (false, false) if self.input_over => None,
            (false, false) => Some(Interest::HangUp),
        };
        let Some((poller, token)) = &self.watcher else { return Ok(()) };
        match (self.watched, wish) {
            (before, after) if before == after => {}
            (None, Some(interest)) => poller.add(&self.socket, *token, interest)?,
            (Some(_), Some(interest)) => poller.modify(&self.socket, *token, interest)?,
            (_, None) => poller.remove(&self.socket)?,
        }
        self.watched = wish;
        Ok(())
    }

    /// The other end has closed one or both directions.
    pub fn ended(&mut self) {
        self.input_over = true;
    }

    /// Looks at what is there, up to the room in `to`; 0: nothing now.
    pub fn peek(&mut self, to: &mut [u8]) -> usize {
        match seqpacket::peek(self.socket.as_fd(), to) {
            Ok(0) => self.input_over = true,
            Ok(len) => return len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.input_over = true,
        }
        0
    }

    /// Takes `len` bytes that were looked at.
    pub fn consume(&mut self, len: usize) {
        let mut room = [0; 1024];
        let mut left = len;
        while left > 0 {
            let piece = room.get_mut(..left.min(1024)).unwrap_or_default();
            match seqpacket::receive(self.socket.as_fd(), piece) {
                Ok(datagram) if datagram.len > 0 => left -= datagram.len.min(left),
                // They were there, and nobody else takes them.
                _ => return,
            }
        }
    }

    /// Passes bytes on, as many as there is room for; all of them if nobody is there to take them.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.gone {
            return bytes.len();
        }
        match seqpacket::send_some(self.socket.as_fd(), bytes, &[]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.gone = true;
                bytes.len()
            }
        }
    }
}
