//! One viewer: a stream socket, and how far in the output it is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_sys::poller::Interest;
use bulkhead_sys::seqpacket;

use crate::history::History;

/// A viewer is gone or has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It hung up, or its socket is broken.
    HungUp,
    /// What it would need next is no longer kept.
    TooSlow,
}

/// A viewer.
#[derive(Debug)]
pub struct Viewer {
    socket: OwnedFd,
    position: u64,
    /// What the poller watches it for.
    pub watched: Interest,
}

impl Viewer {
    /// A viewer that is to see what is kept, and then what follows.
    pub fn new(socket: OwnedFd, history: &History) -> Self {
        Self { socket, position: history.opening(), watched: Interest::Read }
    }

    /// Sends what it has not seen, as far as there is room.
    pub fn show(&mut self, history: &History) -> Result<(), Lost> {
        loop {
            let piece = history.piece(self.position).ok_or(Lost::TooSlow)?;
            if piece.is_empty() {
                return Ok(());
            }
            match seqpacket::send_some(self.socket.as_fd(), piece, &[]) {
                Ok(sent) => self.position += sent as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Lost::HungUp),
            }
        }
    }

    /// Takes what was typed, at most as much as `buffer` holds; 0: nothing at the moment.
    ///
    /// End of file is a farewell, also from a viewer that could still read: a viewer that wants to
    /// look on keeps its end open.
    pub fn typed(&self, buffer: &mut [u8]) -> Result<usize, Lost> {
        match seqpacket::receive(self.socket.as_fd(), buffer) {
            Ok(datagram) if datagram.len == 0 => Err(Lost::HungUp),
            Ok(datagram) => Ok(datagram.len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(_) => Err(Lost::HungUp),
        }
    }

    /// What it is to be watched for: typing only while the device has room for it, room only while
    /// there is something to show.
    pub fn interest(&self, history: &History, may_type: bool) -> Interest {
        match (may_type, self.position < history.end()) {
            (true, true) => Interest::ReadWrite,
            (true, false) => Interest::Read,
            (false, true) => Interest::Write,
            (false, false) => Interest::HangUp,
        }
    }
}

impl AsFd for Viewer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
