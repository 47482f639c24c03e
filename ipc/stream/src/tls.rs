//! TLS over a socket that never blocks: `rustls`, for either end.
//!
//! The certificates come with the plan, as bytes, and are parsed here: PEM and X.509 are formats like any
//! other, and this runs in the process that may be lost to one. There are no pre-shared keys: rustls has none.

mod client;
mod pem;
mod server;

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use bulkhead_sys::stream::{self, MOST_PARTS, Part};
use rustls::Connection;

pub use client::{Client, ClientConfig};
pub use pem::TlsError;
pub use rustls::ServerConfig;
pub use server::config as server_config;

use crate::stream::Socket as Shared;

/// Bytes in TLS that may wait for the socket before nothing more is taken.
const MOST_WAITING: usize = 128 << 10;

/// Most bytes of a record, and as many go into one: each costs the peer as much as it costs us.
const RECORD: usize = 16 << 10;

/// One peer's TLS.
#[derive(Debug)]
pub struct Session {
    socket: Shared,
    connection: Connection,
    /// What becomes the next record.
    record: Vec<u8>,
    /// The socket has nothing more to read, ever.
    ended: bool,
}

impl Session {
    /// Begins TLS on a socket from which nothing of it has been read.
    pub(crate) fn new(socket: Shared, mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(MOST_WAITING));
        Self { socket, connection, record: Vec::new(), ended: false }
    }

    /// Decrypted bytes. `WouldBlock` only when neither TLS nor the socket has any: the socket tells when there
    /// are more.
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.ended => {}
                // A peer that closes without saying so in TLS has closed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            match self.connection.read_tls(&mut Socket(self.socket.as_fd())) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) => {
                    // The handshake's answers must not wait for the peer's next word.
                    self.flush()?;
                    return Err(error);
                }
            }
            if let Err(error) = self.connection.process_new_packets() {
                // Why, as an alert; the peer may be gone already.
                let _ = self.flush();
                return Err(io::Error::other(error));
            }
        }
    }

    /// Encrypts some bytes and sends what there is room for.
    pub fn send(&mut self, parts: &[Part<'_>]) -> io::Result<usize> {
        let mut sent = 0;
        let mut rest = parts.iter().copied();
        let mut part = rest.next();
        while part.is_some() {
            self.record.clear();
            while let Some(some) = part.filter(|_| self.record.len() < RECORD) {
                let left = self.gather(some)?;
                part = if left.is_empty() { rest.next() } else { Some(left) };
            }
            let count = self.connection.writer().write(&self.record)?;
            sent += count;
            if count < self.record.len() {
                break;
            }
        }
        self.flush()?;
        match sent {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent),
        }
    }

    /// Copies what there is room for into the next record, and answers what is left of the part. A peer may
    /// change what is mapped: what is encrypted is a copy.
    fn gather<'a>(&mut self, part: Part<'a>) -> io::Result<Part<'a>> {
        let count = part.len().min(RECORD - self.record.len());
        match part {
            Part::Bytes(bytes) => self.record.extend(bytes.iter().take(count)),
            Part::Mapped { mapping, offset, .. } => {
                let from = self.record.len();
                self.record.resize(from + count, 0);
                let room = self.record.get_mut(from..).unwrap_or_default();
                mapping.copy_in(offset, room).map_err(io::Error::other)?;
            }
        }
        Ok(part.after(count))
    }

    /// Sends what is encrypted; `true`: all of it.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Socket(self.socket.as_fd())) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Tells the peer that nothing more comes.
    pub fn farewell(&mut self) {
        self.connection.send_close_notify();
        let _ = self.flush();
    }
}

impl Session {
    /// Whether something waits for room in the socket.
    pub fn holds_back(&self) -> bool {
        self.connection.wants_write()
    }

    /// Its socket.
    pub fn socket(&self) -> &Shared {
        &self.socket
    }
}

/// The socket as `rustls` wants it.
struct Socket<'a>(BorrowedFd<'a>);

impl Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        stream::receive(self.0, into)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stream::send(self.0, &[Part::Bytes(bytes)])
    }

    /// All records at once.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut parts = [Part::Bytes(&[]); MOST_PARTS];
        let count = slices.len().min(MOST_PARTS);
        for (part, slice) in parts.iter_mut().zip(slices) {
            *part = Part::Bytes(slice);
        }
        stream::send(self.0, parts.get(..count).unwrap_or_default())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
