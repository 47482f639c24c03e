//! What a line has to send: headers, and behind some of them memory that is sent as it lies.

use std::collections::VecDeque;
use std::io;

use bulkhead_stream::Stream;
use bulkhead_sys::stream::Part;

use crate::memory::Memory;

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Memory(Memory),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Memory(memory) => memory.len() as usize,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are sent.
    sent: usize,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes to be added to.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        if !matches!(self.pieces.back(), Some(Piece::Bytes(_))) {
            self.pieces.push_back(Piece::Bytes(Vec::new()));
        }
        match self.pieces.back_mut() {
            Some(Piece::Bytes(bytes)) => bytes,
            _ => unreachable!("it was made here"),
        }
    }

    pub(super) fn memory(&mut self, memory: Memory) {
        self.pieces.push_back(Piece::Memory(memory));
    }

    /// Sends what there is room for; `true`: that was something.
    pub(super) fn send(&mut self, stream: &mut Stream) -> io::Result<bool> {
        let mut moved = false;
        // An empty piece is nothing to wait for.
        self.advance(0);
        while let Some(front) = self.pieces.front() {
            let sent = match (front, self.pieces.get(1)) {
                (Piece::Bytes(bytes), Some(Piece::Memory(memory))) => {
                    let head = Part::Bytes(bytes.get(self.sent..).unwrap_or_default());
                    with(memory, 0, |data| stream.send(&[head, data]))
                }
                (Piece::Bytes(bytes), _) => {
                    stream.send(&[Part::Bytes(bytes.get(self.sent..).unwrap_or_default())])
                }
                (Piece::Memory(memory), _) => with(memory, self.sent, |data| stream.send(&[data])),
            };
            match sent {
                Ok(count) => {
                    moved |= count > 0;
                    self.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        stream.flush()?;
        Ok(moved)
    }

    fn advance(&mut self, count: usize) {
        self.sent += count;
        while let Some(front) = self.pieces.front()
            && self.sent >= front.len()
        {
            self.sent -= front.len();
            self.pieces.pop_front();
        }
    }
}

/// Lends what is left of `memory`.
fn with(
    memory: &Memory,
    from: usize,
    send: impl FnOnce(Part<'_>) -> io::Result<usize>,
) -> io::Result<usize> {
    match memory {
        Memory::Heap(heap) => {
            heap.with(|bytes| send(Part::Bytes(bytes.get(from..).unwrap_or_default())))
        }
        Memory::Arena { arena, span } => {
            let left = u64::from(span.len).saturating_sub(from as u64);
            let slice = arena.check(u64::from(span.offset) + from as u64, left);
            let slice = slice.map_err(io::Error::other)?;
            let (mapping, offset, len) = (slice.mapping(), slice.offset(), slice.len());
            send(Part::Mapped { mapping, offset, len })
        }
    }
}
