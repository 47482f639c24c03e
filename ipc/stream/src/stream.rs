//! A connection: a socket, with or without TLS.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use bulkhead_ring::ArenaSlice;
use bulkhead_sys::stream::{self, Part};

use rustls::{ClientConnection, ServerConfig, ServerConnection};

use crate::tls::{self, Session};

/// Bytes that pass through private memory at once on their way between TLS and the arena.
const STEP: usize = 16 << 10;

/// A socket that its owner may watch while it is read and written elsewhere.
pub type Socket = Rc<OwnedFd>;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Plain(Socket),
    /// Bytes in TLS.
    Tls(Box<Session>),
    /// While the one becomes the other, and if it cannot.
    Broken,
}

impl Stream {
    /// A connection without TLS.
    pub fn plain(socket: OwnedFd) -> Self {
        Self::Plain(Rc::new(socket))
    }

    /// TLS from the next byte on, as a server.
    pub fn secure(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        self.secure_as(connection.into());
        Ok(())
    }

    /// TLS from the next byte on, as a client.
    pub fn secure_client(&mut self, client: &tls::Client) -> io::Result<()> {
        let connection: ClientConnection = client.connect().map_err(io::Error::other)?;
        self.secure_as(connection.into());
        Ok(())
    }

    fn secure_as(&mut self, connection: rustls::Connection) {
        if let Self::Plain(socket) = std::mem::replace(self, Self::Broken) {
            *self = Self::Tls(Box::new(Session::new(socket, connection)));
        }
    }

    /// The socket, to be watched, unless it is broken.
    pub fn shared(&self) -> Option<Socket> {
        match self {
            Self::Plain(socket) => Some(Rc::clone(socket)),
            Self::Tls(session) => Some(Rc::clone(session.socket())),
            Self::Broken => None,
        }
    }

    /// Whether TLS holds back bytes that the socket had no room for.
    pub fn holds_back(&self) -> bool {
        matches!(self, Self::Tls(session) if session.holds_back())
    }

    /// The socket, unless it is broken.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Plain(socket) => Some(socket.as_fd()),
            Self::Tls(session) => Some(session.socket().as_fd()),
            Self::Broken => None,
        }
    }

    /// Reads what is there; 0: the peer has closed; `WouldBlock`: nothing is there.
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => stream::receive(socket, into),
            Self::Tls(session) => session.receive(into),
            Self::Broken => Err(broken()),
        }
    }

    /// Whether a read that found less than it had room for has taken all there was.
    pub fn short_is_all(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Reads into the arena.
    pub fn receive_into(&mut self, slice: ArenaSlice<'_>) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => {
                stream::receive_mapped(socket, slice.mapping(), slice.offset(), slice.len())
            }
            Self::Tls(session) => {
                let mut bytes = [0; STEP];
                let most = slice.len().min(STEP);
                let count = session.receive(bytes.get_mut(..most).unwrap_or_default())?;
                let received = bytes.get(..count).unwrap_or_default();
                slice.copy_out(received).map_err(io::Error::other)?;
                Ok(count)
            }
            Self::Broken => Err(broken()),
        }
    }

    /// Sends some of `parts`, and says how many bytes.
    pub fn send(&mut self, parts: &[Part<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => stream::send(socket, parts),
            Self::Tls(session) => session.send(parts),
            Self::Broken => Err(broken()),
        }
    }

    /// Sends what TLS holds back; `true`: it holds nothing any more.
    pub fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(session) => session.flush(),
            Self::Broken => Err(broken()),
        }
    }

    /// The peer is told that nothing more comes.
    pub fn farewell(&mut self) {
        if let Self::Tls(session) = self {
            session.farewell();
        }
    }
}

fn broken() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
