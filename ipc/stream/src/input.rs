//! What a peer has sent and nobody has understood yet.

use std::io;

use crate::stream::Stream;

/// Bytes read at once in the transmission phase: many requests without data, or the head of one with.
pub const USUAL: usize = 16 << 10;

/// A buffer that is filled behind and taken from in front.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// What became of an attempt to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// There is more than before.
    More,
    /// There is nothing to read now.
    Nothing,
    /// The peer has closed.
    Closed,
}

impl Input {
    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The first `N` bytes, if they are there.
    pub fn head<const N: usize>(&self) -> Option<&[u8; N]> {
        self.bytes().first_chunk()
    }

    /// The first `count` bytes are done with.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once, with room for `room` bytes in all.
    pub fn fill(&mut self, stream: &mut Stream, room: usize) -> io::Result<Filled> {
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let free = self.bytes.get_mut(self.end..).unwrap_or_default();
        if free.is_empty() {
            return Ok(Filled::Nothing);
        }
        match stream.receive(free) {
            Ok(0) => Ok(Filled::Closed),
            Ok(count) => {
                self.end += count;
                Ok(Filled::More)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Adds bytes that came otherwise than by a socket.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.truncate(self.end);
        self.bytes.extend(bytes);
        self.end = self.bytes.len();
    }

    /// Gives back what only a handshake needs.
    pub fn shrink(&mut self) {
        if self.bytes().len() < USUAL {
            let rest = self.bytes().to_vec();
            (self.start, self.end) = (0, rest.len());
            self.bytes = rest;
        }
    }
}
