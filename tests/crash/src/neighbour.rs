//! An NBD client of the same disk, with blocks of its own: it writes, reads back, flushes, and keeps book.
//!
//! Several requests are under way at a time, each of another block; the answers come in any order. Who dies
//! behind the server is no concern of a client: it waits.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bulkhead_nbd::{handshake, option, reply, request};

use crate::driver::Shared;
use crate::ledger::{Fault, Ledger};
use crate::stamp::BLOCK;

/// Requests under way at a time.
const DEPTH: usize = 8;

/// How long an answer may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The client.
#[derive(Debug)]
pub struct Neighbour {
    stream: UnixStream,
    ledger: Ledger,
    shared: Arc<Shared>,
    turn: usize,
}

fn broken(what: impl std::fmt::Display) -> Fault {
    Fault::Queue(format!("NBD: {what}"))
}

impl Neighbour {
    /// Connects, and takes the default export.
    pub fn connect(path: &Path, ledger: Ledger, shared: Arc<Shared>) -> std::io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut greeting = [0; handshake::GREETING];
        stream.read_exact(&mut greeting)?;
        let flags = handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES;
        let mut hello = flags.to_be_bytes().to_vec();
        let wanted = option::InfoQuery { name: "", wanted: Vec::new() }.encode();
        handshake::encode_option(&mut hello, option::OptionCode::Go, &wanted);
        stream.write_all(&hello)?;
        loop {
            let mut header = [0; handshake::REPLY_HEADER];
            stream.read_exact(&mut header)?;
            let header = handshake::ReplyHeader::decode(&header).map_err(std::io::Error::other)?;
            let mut data = vec![0; header.len as usize];
            stream.read_exact(&mut data)?;
            match header.kind {
                handshake::ReplyKind::Ack => break,
                handshake::ReplyKind::Info => {}
                other => return Err(std::io::Error::other(format!("GO is answered by {other:?}"))),
            }
        }
        Ok(Self { stream, ledger, shared, turn: 0 })
    }

    /// Works until the end; its book afterwards. All blocks were read back and found right.
    pub fn run(mut self) -> Result<Ledger, Fault> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.turn += 1;
            let len = self.ledger.len();
            let places: Vec<usize> =
                (0..DEPTH).map(|index| (self.turn * 5 + index * len / DEPTH) % len).collect();
            let command = match self.turn % 3 {
                0 => request::Command::Read,
                _ => request::Command::Write,
            };
            self.perform(command, &places)?;
            if self.turn.is_multiple_of(16) {
                self.perform(request::Command::Flush, &[0])?;
            }
            self.shared.completed.fetch_add(DEPTH as u64, Ordering::Relaxed);
        }
        let all: Vec<usize> = (0..self.ledger.len()).collect();
        for places in all.chunks(DEPTH) {
            self.perform(request::Command::Read, places)?;
        }
        Ok(self.ledger)
    }

    /// One request for each place, and their answers.
    fn perform(&mut self, command: request::Command, places: &[usize]) -> Result<(), Fault> {
        let (mut bytes, mut block) = (Vec::new(), [0; BLOCK]);
        for place in places {
            let moves = command != request::Command::Flush;
            request::Request {
                flags: 0,
                command: command.code(),
                cookie: *place as u64,
                offset: if moves { self.ledger.number(*place) * BLOCK as u64 } else { 0 },
                len: if moves { BLOCK as u64 } else { 0 },
            }
            .encode(&mut bytes, false);
            if command == request::Command::Write {
                self.ledger.next(*place).fill(&mut block);
                bytes.extend(block);
            }
        }
        self.stream.write_all(&bytes).map_err(broken)?;
        for _ in places {
            let place = self.answer()?;
            match command {
                request::Command::Write => self.ledger.acknowledge(place),
                request::Command::Read => {
                    self.stream.read_exact(&mut block).map_err(broken)?;
                    self.ledger.judge(place, &block)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The next answer: the place it is about.
    fn answer(&mut self) -> Result<usize, Fault> {
        let mut header = [0; reply::SIMPLE];
        self.stream.read_exact(&mut header).map_err(broken)?;
        match reply::ReplyHeader::decode(&header).map_err(broken)? {
            reply::ReplyHeader::Simple { cookie, result: Ok(()) } => Ok(cookie as usize),
            other => Err(broken(format_args!("{other:?}"))),
        }
    }
}
