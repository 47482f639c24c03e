//! How requests are answered ("Simple reply message", "Structured reply chunk message", "Extended reply
//! chunk message").
//!
//! A *simple* reply is one message. *Structured* and *extended* replies are chunks, the last of which says
//! so; they differ in their headers and in how block status is written.

use crate::cursor::{Cursor, Malformed, text};
use crate::error::Error;

const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
const EXTENDED_MAGIC: u32 = 0x6e8a_278c;

/// Bytes of a simple reply without its data.
pub const SIMPLE: usize = 16;
/// Bytes in front of a structured chunk's payload.
pub const STRUCTURED: usize = 20;
/// Bytes in front of an extended chunk's payload.
pub const EXTENDED: usize = 32;

/// `NBD_REPLY_FLAG_DONE`: the last chunk.
pub const DONE: u16 = 1;

const NONE: u16 = 0;
const OFFSET_DATA: u16 = 1;
const OFFSET_HOLE: u16 = 2;
const BLOCK_STATUS: u16 = 5;
const BLOCK_STATUS_EXT: u16 = 6;
const ERROR: u16 = 1 << 15;
const ERROR_PLAIN: u16 = ERROR + 1;
const ERROR_OFFSET: u16 = ERROR + 2;

/// Which replies were agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Style {
    /// One message each.
    Simple,
    /// Chunks for what has a payload or failed.
    Structured,
    /// Chunks for everything, lengths of 64 bits.
    Extended,
}

/// Who is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addressee {
    /// The request's cookie.
    pub cookie: u64,
    /// Its offset, which an extended chunk repeats.
    pub offset: u64,
}

/// A range of block status: its length and what the context says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes, never 0. In structured replies it must fit 32 bits.
    pub len: u64,
    /// The context's bits or number.
    pub status: u32,
}

/// Writes the header of a chunk whose payload has `len` bytes.
fn chunk(out: &mut Vec<u8>, style: Style, to: Addressee, flags: u16, kind: u16, len: usize) {
    let extended = style == Style::Extended;
    let magic = if extended { EXTENDED_MAGIC } else { STRUCTURED_MAGIC };
    out.extend(magic.to_be_bytes());
    out.extend(flags.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(to.cookie.to_be_bytes());
    match extended {
        true => {
            out.extend(to.offset.to_be_bytes());
            out.extend((len as u64).to_be_bytes());
        }
        false => out.extend((len as u32).to_be_bytes()),
    }
}

fn simple(out: &mut Vec<u8>, to: Addressee, error: u32) {
    out.extend(SIMPLE_MAGIC.to_be_bytes());
    out.extend(error.to_be_bytes());
    out.extend(to.cookie.to_be_bytes());
}

/// Writes that a request without a payload in its reply is done. A simple one is allowed beside
/// structured ones, and shorter.
pub fn encode_done(out: &mut Vec<u8>, style: Style, to: Addressee) {
    match style {
        Style::Simple | Style::Structured => simple(out, to, 0),
        Style::Extended => chunk(out, style, to, DONE, NONE, 0),
    }
}

/// Writes the chunk that ends a reply whose other chunks have been sent.
pub fn encode_last(out: &mut Vec<u8>, style: Style, to: Addressee) {
    chunk(out, style, to, DONE, NONE, 0);
}

/// Writes that a request failed, and where there is room for it, why. It ends the reply.
pub fn encode_error(out: &mut Vec<u8>, style: Style, to: Addressee, error: Error, why: &str) {
    if style == Style::Simple {
        return simple(out, to, error.code());
    }
    let why = why.get(..why.len().min(1024)).unwrap_or_default();
    chunk(out, style, to, DONE, ERROR_PLAIN, 6 + why.len());
    out.extend(error.code().to_be_bytes());
    out.extend((why.len() as u16).to_be_bytes());
    out.extend(why.as_bytes());
}

/// Writes what stands in front of read data: of all of it in a simple reply, of `len` bytes at `at` in
/// the others. The data follows.
pub fn encode_data(out: &mut Vec<u8>, style: Style, to: Addressee, at: u64, len: u32, last: bool) {
    if style == Style::Simple {
        return simple(out, to, 0);
    }
    let flags = if last { DONE } else { 0 };
    chunk(out, style, to, flags, OFFSET_DATA, 8 + len as usize);
    out.extend(at.to_be_bytes());
}

/// Writes what a context says of consecutive ranges.
pub fn encode_status(
    out: &mut Vec<u8>,
    style: Style,
    to: Addressee,
    context: u32,
    extents: &[Extent],
    last: bool,
) {
    let flags = if last { DONE } else { 0 };
    if style == Style::Extended {
        chunk(out, style, to, flags, BLOCK_STATUS_EXT, 8 + 16 * extents.len());
        out.extend(context.to_be_bytes());
        out.extend((extents.len() as u32).to_be_bytes());
        for extent in extents {
            out.extend(extent.len.to_be_bytes());
            out.extend(u64::from(extent.status).to_be_bytes());
        }
    } else {
        chunk(out, style, to, flags, BLOCK_STATUS, 4 + 8 * extents.len());
        out.extend(context.to_be_bytes());
        for extent in extents {
            out.extend((extent.len as u32).to_be_bytes());
            out.extend(extent.status.to_be_bytes());
        }
    }
}

/// The header of any reply, as a client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyHeader {
    /// A simple one; data follows if it was a read without an error.
    Simple {
        /// The request's cookie.
        cookie: u64,
        /// How it ended.
        result: Result<(), Error>,
    },
    /// A chunk.
    Chunk {
        /// The request's cookie.
        cookie: u64,
        /// It is the last one.
        done: bool,
        /// What it is.
        kind: ChunkKind,
        /// Bytes of its payload.
        len: u64,
    },
}

/// What a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkKind {
    /// Nothing.
    None,
    /// An offset of 64 bits, and data.
    Data,
    /// An offset of 64 bits and a length of 32, which read as zeroes.
    Hole,
    /// Block status.
    Status,
    /// Block status, as extended replies have it.
    ExtendedStatus,
    /// An error: [`decode_error`].
    Error,
    /// Something else.
    Unknown(u16),
}

/// How many bytes the header has that begins with these; `None`: it is none.
pub fn header_len(magic: [u8; 4]) -> Option<usize> {
    match u32::from_be_bytes(magic) {
        SIMPLE_MAGIC => Some(SIMPLE),
        STRUCTURED_MAGIC => Some(STRUCTURED),
        EXTENDED_MAGIC => Some(EXTENDED),
        _ => None,
    }
}

impl ReplyHeader {
    /// Reads a header of [`header_len`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u32()?;
        if magic == SIMPLE_MAGIC {
            let (error, cookie) = (cursor.u32()?, cursor.u64()?);
            let result = match error {
                0 => Ok(()),
                code => Err(Error::from_code(code)),
            };
            return Ok(Self::Simple { cookie, result });
        }
        let (flags, kind, cookie) = (cursor.u16()?, cursor.u16()?, cursor.u64()?);
        let len = match magic {
            STRUCTURED_MAGIC => cursor.u32()?.into(),
            EXTENDED_MAGIC => {
                let _offset = cursor.u64()?;
                cursor.u64()?
            }
            _ => return Err(Malformed::Magic(magic.into())),
        };
        let kind = match kind {
            NONE => ChunkKind::None,
            OFFSET_DATA => ChunkKind::Data,
            OFFSET_HOLE => ChunkKind::Hole,
            BLOCK_STATUS => ChunkKind::Status,
            BLOCK_STATUS_EXT => ChunkKind::ExtendedStatus,
            ERROR_PLAIN | ERROR_OFFSET => ChunkKind::Error,
            other if other & ERROR != 0 => ChunkKind::Error,
            other => ChunkKind::Unknown(other),
        };
        Ok(Self::Chunk { cookie, done: flags & DONE != 0, kind, len })
    }
}

/// Number and text of an error chunk's payload. The text is for people and may be anything printable.
pub fn decode_error(payload: &[u8]) -> Result<(Error, &str), Malformed> {
    let mut cursor = Cursor::new(payload);
    let (code, len) = (cursor.u32()?, cursor.u16()?);
    let why = cursor.take(len.into())?;
    match code {
        0 => Err(Malformed::Number(0)),
        code => Ok((Error::from_code(code), text(why)?)),
    }
}

/// Offset and length of a hole chunk's payload.
pub fn decode_hole(payload: &[u8]) -> Result<(u64, u32), Malformed> {
    let mut cursor = Cursor::new(payload);
    let hole = (cursor.u64()?, cursor.u32()?);
    cursor.end()?;
    match hole.1 {
        0 => Err(Malformed::Number(0)),
        _ => Ok(hole),
    }
}

/// Context and extents of a block status chunk's payload.
pub fn decode_status(payload: &[u8], kind: ChunkKind) -> Result<(u32, Vec<Extent>), Malformed> {
    let mut cursor = Cursor::new(payload);
    let context = cursor.u32()?;
    let extended = kind == ChunkKind::ExtendedStatus;
    if extended {
        let (count, left) = (cursor.u32()?, cursor.rest().len());
        if count as usize != left / 16 {
            return Err(Malformed::Number(count.into()));
        }
    }
    let mut extents = Vec::new();
    while !cursor.is_empty() {
        let (len, status) = match extended {
            true => (cursor.u64()?, cursor.u64()?),
            false => (cursor.u32()?.into(), cursor.u32()?.into()),
        };
        let status = u32::try_from(status).map_err(|_| Malformed::Number(status))?;
        if len == 0 {
            return Err(Malformed::Number(0));
        }
        extents.push(Extent { len, status });
    }
    match extents.is_empty() {
        true => Err(Malformed::Short),
        false => Ok((context, extents)),
    }
}
