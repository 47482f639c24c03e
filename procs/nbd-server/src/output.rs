//! What a client has not taken yet: replies, and spans of the arena with the data of reads.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use bulkhead_ring::{Arena, ArenaSpan};
use bulkhead_sys::stream::{MOST_PARTS, Part};

use crate::owner::BlockLink;
use bulkhead_stream::Stream;

/// Zeroes that stand in for data that could not be read.
static ZEROES: [u8; 16 << 10] = [0; 16 << 10];

#[derive(Debug)]
enum Item {
    Bytes { bytes: Vec<u8>, from: usize },
    Data { arena: Arena, span: ArenaSpan, from: u32, to: u32 },
    Zeroes(u32),
}

/// A queue of them.
#[derive(Debug, Default)]
pub struct Output {
    items: VecDeque<Item>,
    /// Bytes that are not in the arena.
    heads: usize,
    /// Bytes that are.
    data: u64,
    /// When the item in front got there, if there is one.
    since: Option<Instant>,
}

impl Output {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that wait in private memory.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Bytes that wait in the arena.
    pub fn data(&self) -> u64 {
        self.data
    }

    /// Since when the client has not taken what is in front.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Adds bytes, which `write` appends to what is there.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.items.back(), Some(Item::Bytes { .. })) {
            self.items.push_back(Item::Bytes { bytes: Vec::with_capacity(64), from: 0 });
        }
        if let Some(Item::Bytes { bytes, .. }) = self.items.back_mut() {
            let before = bytes.len();
            write(bytes);
            self.heads += bytes.len() - before;
            if bytes.is_empty() {
                self.items.pop_back();
            }
        }
    }

    /// Adds the bytes `from..to` of a span of `arena`, which is given back when they are sent.
    pub fn push_data(&mut self, arena: Arena, span: ArenaSpan, from: u32, to: u32) {
        self.data += u64::from(to - from);
        self.items.push_back(Item::Data { arena, span, from, to });
    }

    /// Adds zeroes.
    pub fn push_zeroes(&mut self, count: u32) {
        if count > 0 {
            self.items.push_back(Item::Zeroes(count));
        }
    }

    /// Sends as much as there is room for. Answers how many bytes of the arena were given back.
    pub fn send(
        &mut self,
        stream: &mut Stream,
        link: &mut BlockLink,
        now: Instant,
    ) -> io::Result<u64> {
        let mut released = 0;
        while !self.items.is_empty() {
            self.since.get_or_insert(now);
            let mut parts = [Part::Bytes(&[]); MOST_PARTS];
            let mut count = 0;
            for (place, item) in parts.iter_mut().zip(&self.items) {
                *place = part(item)?;
                count += 1;
            }
            match stream.send(parts.get(..count).unwrap_or_default()) {
                Ok(sent) => released += self.sent(sent, link, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.items.is_empty() {
            self.since = None;
        }
        Ok(released)
    }

    fn sent(&mut self, mut sent: usize, link: &mut BlockLink, now: Instant) -> u64 {
        let mut released = 0;
        while let Some(front) = self.items.front_mut() {
            let left = len(front);
            let done = sent.min(left);
            match front {
                Item::Bytes { from, .. } => {
                    *from += done;
                    self.heads -= done;
                }
                Item::Data { from, .. } => {
                    *from += done as u32;
                    self.data -= done as u64;
                }
                Item::Zeroes(count) => *count -= done as u32,
            }
            sent -= done;
            if done < left {
                break;
            }
            self.since = Some(now);
            if let Some(Item::Data { span, .. }) = self.items.pop_front() {
                released += span.len();
                link.release(Some(span));
            }
        }
        released
    }

    /// The client is gone: gives everything back.
    pub fn abandon(&mut self, link: &mut BlockLink) {
        for item in self.items.drain(..) {
            if let Item::Data { span, .. } = item {
                link.release(Some(span));
            }
        }
        (self.heads, self.data, self.since) = (0, 0, None);
    }
}

fn len(item: &Item) -> usize {
    match item {
        Item::Bytes { bytes, from } => bytes.len() - from,
        Item::Data { from, to, .. } => (to - from) as usize,
        Item::Zeroes(count) => *count as usize,
    }
}

fn part(item: &Item) -> io::Result<Part<'_>> {
    Ok(match item {
        Item::Bytes { bytes, from } => Part::Bytes(bytes.get(*from..).unwrap_or_default()),
        Item::Data { arena, span, from, to } => {
            let at = span.offset() + u64::from(*from);
            let slice = arena.check(at, u64::from(to - from)).map_err(io::Error::other)?;
            Part::Mapped { mapping: slice.mapping(), offset: slice.offset(), len: slice.len() }
        }
        Item::Zeroes(count) => {
            Part::Bytes(ZEROES.get(..(*count as usize).min(ZEROES.len())).unwrap_or_default())
        }
    })
}
