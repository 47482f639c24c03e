//! What comes on a line: answers, whose data goes where it was wanted.

use std::io;

use bulkhead_nbd::answer::{Answer, DATA_HEAD, Payload};
use bulkhead_nbd::context;
use bulkhead_nbd::error::Error;
use bulkhead_nbd::negotiation::Agreed;
use bulkhead_nbd::reply::{ChunkKind, ReplyHeader, header_len};
use bulkhead_stream::Stream;
use bulkhead_stream::input::USUAL;

use super::line::{Line, lost};
use super::requests::Requests;
use crate::memory::Memory;
use crate::outcome::Failure;

/// Bytes that one line may bring before the others, and everything else, get their turn.
const TURN: u64 = 1 << 20;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// A header.
    Header,
    /// Where the data of a chunk begins.
    Place { cookie: u64, len: u64, last: bool },
    /// Data.
    Data { cookie: u64, start: u64, left: u64, last: bool },
    /// What is no data.
    Small { cookie: u64, kind: ChunkKind, len: usize, last: bool },
}

impl Line {
    /// Takes answers as far as they have come.
    pub(super) fn receive(
        &mut self,
        agreed: Agreed,
        requests: &mut Requests,
    ) -> Result<(), String> {
        let mut brought = 0;
        self.more = false;
        while brought < TURN {
            let before = self.reading;
            let (taken, got) = match self.reading {
                Reading::Header => (self.header(agreed, requests)?, 0),
                Reading::Place { cookie, len, last } => {
                    (self.place(cookie, len, last, requests)?, 0)
                }
                Reading::Data { cookie, start, left, last } => {
                    let got = self.data(cookie, start, left, requests)?;
                    let (start, left) = (start + got, left - got);
                    self.reading = Reading::Data { cookie, start, left, last };
                    if left == 0 {
                        self.reading = Reading::Header;
                        self.over_if(last, cookie, requests)?;
                    }
                    (got > 0, got)
                }
                Reading::Small { cookie, kind, len, last } => {
                    (self.small(cookie, kind, len, last, agreed, requests)?, 0)
                }
            };
            brought += got.max(16);
            if !taken {
                let data = matches!(before, Reading::Data { .. });
                // Data was read from the socket itself, which had none.
                if data || !self.fill(USUAL)? {
                    return Ok(());
                }
            }
        }
        self.more = true;
        Ok(())
    }

    fn header(&mut self, agreed: Agreed, requests: &mut Requests) -> Result<bool, String> {
        let bytes = self.input.bytes();
        let Some(magic) = bytes.first_chunk() else {
            return Ok(false);
        };
        let len = header_len(*magic).ok_or("what it sends is no answer")?;
        let Some(header) = bytes.get(..len) else {
            return Ok(false);
        };
        let header = ReplyHeader::decode(header).map_err(broken)?;
        self.input.consume(len);
        let (ReplyHeader::Simple { cookie, .. } | ReplyHeader::Chunk { cookie, .. }) = header;
        let Some((answer, _)) = requests.answer(cookie, self.id()) else {
            return Err("it answers what was not asked".to_owned());
        };
        let style = agreed.style;
        let (payload, last) = match header {
            ReplyHeader::Simple { result, .. } => (answer.simple(style, result), true),
            ReplyHeader::Chunk { kind, len, done, .. } => {
                (answer.chunk(style, kind, len, done), done)
            }
        };
        match (payload.map_err(broken)?, header) {
            (Payload::None, _) => self.over_if(last, cookie, requests)?,
            (Payload::All(left), _) => {
                self.reading = Reading::Data { cookie, start: 0, left, last };
            }
            (Payload::Data(len), _) => self.reading = Reading::Place { cookie, len, last },
            (Payload::Small(len), ReplyHeader::Chunk { kind, .. }) => {
                self.reading = Reading::Small { cookie, kind, len, last };
            }
            (Payload::Small(_), ReplyHeader::Simple { .. }) => {
                return Err("what it sends is no answer".to_owned());
            }
        }
        Ok(true)
    }

    fn place(
        &mut self,
        cookie: u64,
        len: u64,
        last: bool,
        requests: &mut Requests,
    ) -> Result<bool, String> {
        let Some(offset) = self.input.head::<DATA_HEAD>().copied() else {
            return Ok(false);
        };
        self.input.consume(DATA_HEAD);
        let start = answer(requests, cookie, self.id())?.place(u64::from_be_bytes(offset), len);
        let start = start.map_err(broken)?;
        self.reading = Reading::Data { cookie, start, left: len, last };
        Ok(true)
    }

    /// Some of the data: first what lies in the input, then from the socket.
    fn data(
        &mut self,
        cookie: u64,
        start: u64,
        left: u64,
        requests: &mut Requests,
    ) -> Result<u64, String> {
        let Some((_, Some(memory))) = requests.answer(cookie, self.id()) else {
            return Err("it sends data for nothing".to_owned());
        };
        let bytes = self.input.bytes();
        if bytes.is_empty() {
            let there = receive_into(&mut self.stream, &memory.part(start, left));
            return match there {
                Ok(0) => Err("it closed the connection".to_owned()),
                Ok(count) => {
                    self.moved = true;
                    Ok(count as u64)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                Err(error) => Err(lost(&error)),
            };
        }
        let here = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let into = memory.part(start, here as u64);
        into.copy_from(bytes.get(..here).unwrap_or_default()).map_err(|error| error.to_string())?;
        self.input.consume(here);
        Ok(here as u64)
    }

    fn small(
        &mut self,
        cookie: u64,
        kind: ChunkKind,
        len: usize,
        last: bool,
        agreed: Agreed,
        requests: &mut Requests,
    ) -> Result<bool, String> {
        let Some(payload) = self.input.bytes().get(..len) else {
            return Ok(false);
        };
        let Some((answer, memory)) = requests.answer(cookie, self.id()) else {
            return Err("it answers what was not asked".to_owned());
        };
        let zeroes = answer.small(kind, agreed.allocation, payload).map_err(broken)?;
        if let (Some((start, len)), Some(memory)) = (zeroes, memory) {
            memory.part(start, len).zero().map_err(|error| error.to_string())?;
        }
        self.input.consume(len);
        self.reading = Reading::Header;
        self.over_if(last, cookie, requests)?;
        Ok(true)
    }

    /// After the last part of an answer its request is over.
    fn over_if(&mut self, last: bool, cookie: u64, requests: &mut Requests) -> Result<(), String> {
        if !last {
            return Ok(());
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        let ended = requests.answer(cookie, self.id()).map(|(answer, _)| answer.clone().end());
        match ended.ok_or("it answers what was not asked")?.map_err(broken)? {
            // What it did not do another one does, or this one when it is back.
            Err(Error::ShuttingDown) => return Err("it shuts down".to_owned()),
            Err(error) => requests.end(cookie, Err(Failure::of(error.code() as u16))),
            Ok(extents) => requests.end(cookie, Ok(extents)),
        }
        Ok(())
    }
}

/// Whether extents of `base:allocation` read as zeroes.
pub(super) fn is_zero(status: u32) -> bool {
    status & context::ZERO != 0
}

fn answer(requests: &mut Requests, cookie: u64, line: u64) -> Result<&mut Answer, String> {
    match requests.answer(cookie, line) {
        Some((answer, _)) => Ok(answer),
        None => Err("it answers what was not asked".to_owned()),
    }
}

fn broken(error: impl std::fmt::Display) -> String {
    format!("it breaks the protocol: {error}")
}

fn receive_into(stream: &mut Stream, memory: &Memory) -> io::Result<usize> {
    match memory {
        Memory::Heap(heap) => heap.with(|bytes| stream.receive(bytes)),
        Memory::Arena { arena, span } => {
            let slice = arena.check(span.offset.into(), span.len.into());
            stream.receive_into(slice.map_err(io::Error::other)?)
        }
    }
}
