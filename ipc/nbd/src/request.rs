//! What a client asks in the transmission phase ("Request message").

use crate::cursor::{Cursor, Malformed};

const COMPACT_MAGIC: u32 = 0x2560_9513;
const EXTENDED_MAGIC: u32 = 0x21e4_1c71;

/// Bytes of a compact header.
pub const COMPACT: usize = 28;
/// Bytes of an extended header.
pub const EXTENDED: usize = 32;

/// Command flags ("Command flags").
pub mod flag {
    /// On stable storage before the reply.
    pub const FUA: u16 = 1;
    /// Zeroes stay allocated.
    pub const NO_HOLE: u16 = 1 << 1;
    /// One chunk.
    pub const DF: u16 = 1 << 2;
    /// One extent for each context.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Faster than writing, or not at all.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// With extended headers: the length is that of a payload.
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Data to the client.
    Read,
    /// Data from the client.
    Write,
    /// The client leaves.
    Disconnect,
    /// Completed writes to stable storage.
    Flush,
    /// The range is no longer needed.
    Trim,
    /// The range will be read soon.
    Cache,
    /// The range reads as zeroes.
    WriteZeroes,
    /// What the metadata contexts say of the range.
    BlockStatus,
}

impl Command {
    /// Its number.
    pub const fn code(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::Cache => 5,
            Self::WriteZeroes => 6,
            Self::BlockStatus => 7,
        }
    }

    /// The command of that number.
    pub const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            _ => return None,
        })
    }
}

/// One request without its payload: an allegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// [`flag`]s.
    pub flags: u16,
    /// Number of the command.
    pub command: u16,
    /// Names the request in its reply.
    pub cookie: u64,
    /// First byte of the range.
    pub offset: u64,
    /// Length of the range, or of the payload ([`flag::PAYLOAD_LEN`]).
    pub len: u64,
}

impl Request {
    /// Reads a compact header.
    pub fn decode_compact(bytes: &[u8; COMPACT]) -> Result<Self, Malformed> {
        let (mut cursor, request) = Self::decode(bytes, COMPACT_MAGIC)?;
        Ok(Self { len: cursor.u32()?.into(), ..request })
    }

    /// Reads an extended header.
    pub fn decode_extended(bytes: &[u8; EXTENDED]) -> Result<Self, Malformed> {
        let (mut cursor, request) = Self::decode(bytes, EXTENDED_MAGIC)?;
        Ok(Self { len: cursor.u64()?, ..request })
    }

    fn decode(bytes: &[u8], magic: u32) -> Result<(Cursor<'_>, Self), Malformed> {
        let mut cursor = Cursor::new(bytes);
        let said = cursor.u32()?;
        if said != magic {
            return Err(Malformed::Magic(said.into()));
        }
        let (flags, command) = (cursor.u16()?, cursor.u16()?);
        let (cookie, offset) = (cursor.u64()?, cursor.u64()?);
        Ok((cursor, Self { flags, command, cookie, offset, len: 0 }))
    }

    /// Writes the header as a client does: compact, whose length has 32 bits, or extended.
    pub fn encode(&self, out: &mut Vec<u8>, extended: bool) {
        let magic = if extended { EXTENDED_MAGIC } else { COMPACT_MAGIC };
        out.extend(magic.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        out.extend(self.command.to_be_bytes());
        out.extend(self.cookie.to_be_bytes());
        out.extend(self.offset.to_be_bytes());
        match extended {
            true => out.extend(self.len.to_be_bytes()),
            false => out.extend((self.len as u32).to_be_bytes()),
        }
    }
}
