//! The stream socket, watched for exactly what is wanted of it.
//!
//! Level-triggered watching of bytes that nobody takes would keep the thread awake, so the wish is
//! said anew whenever it changes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_sys::poller::{Interest, Poller, Token};
use bulkhead_sys::seqpacket;

/// What is wanted of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    read: bool,
    write: bool,
}

/// The console's stream.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    watched: Option<(Poller, Token)>,
    wish: Wish,
    /// The other end is gone: what the guest writes goes nowhere, as on a cable that was pulled.
    gone: bool,
}

impl Stream {
    /// Takes the socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, watched: None, wish: Wish { read: true, write: false }, gone: false }
    }

    /// Begins to watch it.
    pub fn watch(&mut self, poller: &Poller, token: Token) -> io::Result<()> {
        poller.add(&self.socket, token, Interest::Read)?;
        self.watched = Some((poller.clone(), token));
        Ok(())
    }

    /// Says what is wanted from now on.
    pub fn want(&mut self, read: bool, write: bool) -> io::Result<()> {
        let wish = Wish { read, write };
        let Some((poller, token)) = &self.watched else { return Ok(()) };
        if wish == self.wish || self.gone {
            return Ok(());
        }
        let interest = match (read, write) {
            (true, true) => Interest::ReadWrite,
            (true, false) => Interest::Read,
            (false, true) => Interest::Write,
            (false, false) => Interest::HangUp,
        };
        poller.modify(&self.socket, *token, interest)?;
        self.wish = wish;
        Ok(())
    }

    /// Takes what is there, up to the room in `to`; 0: nothing now.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        if self.gone || to.is_empty() {
            return 0;
        }
        match seqpacket::receive(self.socket.as_fd(), to) {
            Ok(datagram) if datagram.len > 0 => datagram.len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            _ => {
                self.hang_up();
                0
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
                self.hang_up();
                bytes.len()
            }
        }
    }

    fn hang_up(&mut self) {
        self.gone = true;
        if let Some((poller, _)) = &self.watched {
            let _ = poller.remove(&self.socket);
        }
    }
}
