//! What a server answers to one request, held against what was asked.
//!
//! The caller reads headers ([`ReplyHeader`](crate::reply::ReplyHeader)) and payloads; this says what payload
//! a header may have, where its data belongs, and when the request is over.
//!
//! Law: data never lies outside of what was asked for, all of it comes or the request fails, and a reply ends.

use crate::cursor::Malformed;
use crate::error::Error;
use crate::reply::{ChunkKind, Extent, Style, decode_error, decode_hole, decode_status};
use crate::request::Command;

/// Bytes of a data chunk's payload in front of the data.
pub const DATA_HEAD: usize = 8;

/// Longest payload that is no data: an error's text, or a few extents.
pub const LONGEST_SMALL: u64 = 8 << 10;

/// Most chunks of a reply that carry nothing of what was asked for.
const MOST_EMPTY: u32 = 16;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// What.
    pub command: Command,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// What follows a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Nothing.
    None,
    /// This many bytes of data: all that was asked for.
    All(u64),
    /// An offset of [`DATA_HEAD`] bytes, and this many bytes of data: [`Answer::place`] says where they belong.
    Data(u64),
    /// This many bytes for [`Answer::small`].
    Small(usize),
}

/// A server's answer breaks the protocol. Peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not have its form.
    #[error("an answer is no answer: {0}")]
    Malformed(#[from] Malformed),
    /// It does not fit what was asked or agreed on.
    #[error("an answer does not fit what was asked")]
    Misplaced,
    /// It carries what was not asked for.
    #[error("an answer has data that was not asked for")]
    Outside,
    /// It ends before all is there.
    #[error("an answer lacks data")]
    Incomplete,
    /// It does not end.
    #[error("an answer without end")]
    Endless,
}

/// An answer under way.
#[derive(Debug, Clone)]
pub struct Answer {
    asked: Asked,
    covered: u64,
    empty: u32,
    error: Option<Error>,
    extents: Vec<Extent>,
}

impl Answer {
    /// To this, of which nothing has come.
    pub fn new(asked: Asked) -> Self {
        Self { asked, covered: 0, empty: 0, error: None, extents: Vec::new() }
    }

    /// A simple reply: what follows it.
    pub fn simple(&mut self, style: Style, result: Result<(), Error>) -> Result<Payload, Fault> {
        let begun = self.covered > 0 || self.empty > 0;
        let reads = matches!(self.asked.command, Command::Read | Command::BlockStatus);
        // "Structured replies": data comes in chunks only. An error in the old form is tolerated, as by other
        // clients: it says all that there is to say.
        if begun || style == Style::Extended || reads && style != Style::Simple && result.is_ok() {
            return Err(Fault::Misplaced);
        }
        match result {
            Err(error) => self.error = Some(error),
            Ok(()) if self.asked.command == Command::Read => {
                self.covered = self.asked.len;
                return Ok(Payload::All(self.asked.len));
            }
            Ok(()) => {}
        }
        Ok(Payload::None)
    }

    /// A chunk: what follows its header.
    pub fn chunk(
        &mut self,
        style: Style,
        kind: ChunkKind,
        len: u64,
        done: bool,
    ) -> Result<Payload, Fault> {
        if style == Style::Simple {
            return Err(Fault::Misplaced);
        }
        match kind {
            ChunkKind::None if len == 0 && done => Ok(Payload::None),
            ChunkKind::Data if self.asked.command == Command::Read => {
                match len.checked_sub(DATA_HEAD as u64) {
                    Some(data @ 1..) if data <= self.asked.len => Ok(Payload::Data(data)),
                    _ => Err(Fault::Outside),
                }
            }
            ChunkKind::Hole if self.asked.command == Command::Read => small(len),
            ChunkKind::Status | ChunkKind::ExtendedStatus
                if self.asked.command == Command::BlockStatus
                    && (kind == ChunkKind::ExtendedStatus) == (style == Style::Extended) =>
            {
                self.count()?;
                small(len)
            }
            ChunkKind::Error => {
                self.count()?;
                small(len)
            }
            _ => Err(Fault::Misplaced),
        }
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.empty += 1;
        if self.empty > MOST_EMPTY { Err(Fault::Endless) } else { Ok(()) }
    }

    /// Where `len` bytes of data belong that are said to begin at `offset`: counted from the first byte that
    /// was asked for.
    pub fn place(&mut self, offset: u64, len: u64) -> Result<u64, Fault> {
        let start = offset.checked_sub(self.asked.offset).ok_or(Fault::Outside)?;
        let end = start.checked_add(len).ok_or(Fault::Outside)?;
        self.covered = self.covered.saturating_add(len);
        // Bytes that come twice make up for bytes that do not come, so the count is held as well.
        match end <= self.asked.len && self.covered <= self.asked.len {
            true => Ok(start),
            false => Err(Fault::Outside),
        }
    }

    /// The payload of a chunk without data. A range to be filled with zeroes, counted from the first byte
    /// that was asked for, is returned.
    pub fn small(
        &mut self,
        kind: ChunkKind,
        context: Option<u32>,
        payload: &[u8],
    ) -> Result<Option<(u64, u64)>, Fault> {
        match kind {
            ChunkKind::Hole => {
                let (offset, len) = decode_hole(payload)?;
                let start = self.place(offset, len.into())?;
                return Ok(Some((start, len.into())));
            }
            ChunkKind::Status | ChunkKind::ExtendedStatus => {
                let (said, extents) = decode_status(payload, kind)?;
                if Some(said) != context || !self.extents.is_empty() {
                    return Err(Fault::Misplaced);
                }
                self.extents = extents;
            }
            _ => {
                // Its text is for people who look at the server.
                let error = match decode_error(payload) {
                    Ok((error, _)) => error,
                    Err(Malformed::Text) => Error::Io,
                    Err(error) => return Err(error.into()),
                };
                self.error.get_or_insert(error);
            }
        }
        Ok(None)
    }

    /// The reply is over: how the request ended.
    pub fn end(self) -> Result<Result<Vec<Extent>, Error>, Fault> {
        if let Some(error) = self.error {
            return Ok(Err(error));
        }
        let whole = match self.asked.command {
            Command::Read => self.covered == self.asked.len,
            Command::BlockStatus => !self.extents.is_empty(),
            _ => true,
        };
        if whole { Ok(Ok(self.extents)) } else { Err(Fault::Incomplete) }
    }
}

fn small(len: u64) -> Result<Payload, Fault> {
    match usize::try_from(len) {
        Ok(len) if len as u64 <= LONGEST_SMALL => Ok(Payload::Small(len)),
        _ => Err(Fault::Endless),
    }
}

#[cfg(test)]
mod tests;
