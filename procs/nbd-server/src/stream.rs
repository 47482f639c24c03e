//! A client's socket, with or without TLS.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bulkhead_ring::ArenaSlice;
use bulkhead_sys::stream::{self, Part};

use rustls::ServerConfig;

use crate::tls::Session;

/// Bytes that pass through private memory at once on their way between TLS and the arena.
const STEP: usize = 16 << 10;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Plain(OwnedFd),
    /// Bytes in TLS.
    Tls(Box<Session>),
    /// While the one becomes the other, and if it cannot.
    Broken,
}

impl Stream {
    /// TLS from the next byte on.
    pub fn secure(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        if let Self::Plain(socket) = std::mem::replace(self, Self::Broken) {
            let session = Session::new(socket, config).map_err(io::Error::other)?;
            *self = Self::Tls(Box::new(session));
        }
        Ok(())
    }

    /// The socket, unless it is broken.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Plain(socket) => Some(socket.as_fd()),
            Self::Tls(session) => Some(session.as_fd()),
            Self::Broken => None,
        }
    }

    /// Reads what is there; 0: the client has closed; `WouldBlock`: nothing is there.
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => stream::receive(socket, into),
            Self::Tls(session) => session.receive(into),
            Self::Broken => Err(broken()),
        }
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

    /// Whether there is something to read of which the socket knows nothing any more.
    pub fn has_more(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Broken => false,
            Self::Tls(session) => session.has_more(),
        }
    }

    /// The client is told that nothing more comes.
    pub fn farewell(&mut self) {
        if let Self::Tls(session) = self {
            session.farewell();
        }
    }
}

fn broken() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
