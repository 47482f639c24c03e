//! The log pipe of one process: lines while it lives, last words when it is dead.
//!
//! Law: a helper may flood it, so lines are told at a limited rate, and a helper over its rate is not
//! read at all for a while: the pipe fills and its own lines are lost, at no cost to anyone else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::fcntl::OFlag;

use super::allowance::Allowance;

/// Bytes of a line that are kept.
const LONGEST_LINE: usize = 300;

/// Lines told in one second, in the long run and at once.
const LINES: (u32, u32) = (4, 20);

/// Bytes taken in one go.
const CHUNK: usize = 4096;

/// Goes that are read of a dead process: more than a pipe holds.
const LAST_CHUNKS: usize = 32;

/// The reading end.
#[derive(Debug)]
pub struct Log {
    pipe: OwnedFd,
    begun: Vec<u8>,
    last: String,
    lines: Allowance,
}

/// What reading came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Lines to tell.
    Lines(Vec<String>),
    /// Lines to tell, after which the process is over its rate: read no more for a second.
    TooMuch(Vec<String>),
    /// The process closed its end.
    Closed,
}

impl Log {
    /// A pipe: its reading end, and the writing end for the process.
    pub fn pipe(now: Instant) -> std::io::Result<(Self, OwnedFd)> {
        let (pipe, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let log = Self {
            pipe,
            begun: Vec::new(),
            last: String::new(),
            lines: Allowance::new(now, LINES.0, LINES.1),
        };
        Ok((log, theirs))
    }

    /// Takes one chunk of what the process wrote.
    pub fn read(&mut self, now: Instant) -> Heard {
        let lines = match self.chunk() {
            None => return Heard::Closed,
            Some(lines) => lines,
        };
        let mut told = Vec::new();
        for line in lines {
            if !self.lines.take(now) {
                return Heard::TooMuch(told);
            }
            told.push(line);
        }
        Heard::Lines(told)
    }

    /// The last line of a dead process.
    pub fn last_words(&mut self) -> String {
        for _ in 0..LAST_CHUNKS {
            match self.chunk() {
                Some(lines) if !lines.is_empty() => {}
                _ => break,
            }
        }
        if !self.begun.is_empty() {
            self.end_line();
        }
        std::mem::take(&mut self.last)
    }

    /// Complete lines of the next chunk; none at all at the end of the pipe.
    fn chunk(&mut self) -> Option<Vec<String>> {
        let mut bytes = [0; CHUNK];
        let len = match nix::unistd::read(&self.pipe, &mut bytes) {
            Ok(0) => return None,
            Ok(len) => len,
            Err(_) => 0,
        };
        let mut lines = Vec::new();
        for byte in bytes.iter().take(len) {
            match byte {
                b'\n' => lines.push(self.end_line()),
                byte if self.begun.len() < LONGEST_LINE => self.begun.push(*byte),
                _ => {}
            }
        }
        Some(lines)
    }

    fn end_line(&mut self) -> String {
        let printable = |byte: u8| match byte {
            0x20..0x7f => char::from(byte),
            _ => '?',
        };
        self.last = self.begun.drain(..).map(printable).collect();
        self.last.clone()
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(pipe: &OwnedFd, text: &[u8]) {
        assert_eq!(nix::unistd::write(pipe, text), Ok(text.len()));
    }

    #[test]
    fn lines_come_whole_and_printable() {
        let (mut log, pipe) = Log::pipe(Instant::now()).unwrap();
        write(&pipe, b"one\ntw");
        assert_eq!(log.read(Instant::now()), Heard::Lines(vec!["one".into()]));
        write(&pipe, b"o\x1b[2J\n");
        assert_eq!(log.read(Instant::now()), Heard::Lines(vec!["two?[2J".into()]));
        drop(pipe);
        assert_eq!(log.read(Instant::now()), Heard::Closed);
    }

    #[test]
    fn the_last_words_are_the_last_line_even_without_its_end() {
        let (mut log, pipe) = Log::pipe(Instant::now()).unwrap();
        write(&pipe, b"one\ntwo\nthree");
        drop(pipe);
        assert_eq!(log.last_words(), "three");
    }

    #[test]
    fn a_flood_is_told_at_its_rate_and_cannot_grow() {
        let now = Instant::now();
        let (mut log, pipe) = Log::pipe(now).unwrap();
        write(&pipe, &b"x\n".repeat(1_000));
        let Heard::TooMuch(lines) = log.read(now) else {
            panic!("not limited");
        };
        assert_eq!(lines.len(), LINES.1 as usize);
        write(&pipe, &[b'y'; 60_000]);
        drop(pipe);
        assert_eq!(log.last_words().len(), LONGEST_LINE);
    }
}
