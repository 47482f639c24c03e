//! The fixed newstyle handshake ("Handshake phase"): greeting, options, their replies.
//!
//! ```text
//! server: NBDMAGIC IHAVEOPT flags ─► client: flags ─► client: option ─► server: replies ─► … ─► GO
//! ```

use crate::cursor::{Cursor, Malformed};
use crate::option::OptionCode;

/// `NBDMAGIC`.
pub const MAGIC: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`: the second number of a newstyle greeting, and the first of each option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The first number of each reply to an option.
pub const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// `NBD_FLAG_FIXED_NEWSTYLE` and `NBD_FLAG_C_FIXED_NEWSTYLE`.
pub const FIXED_NEWSTYLE: u32 = 1;
/// `NBD_FLAG_NO_ZEROES` and `NBD_FLAG_C_NO_ZEROES`: the answer to `EXPORT_NAME` ends without 124 zeroes.
pub const NO_ZEROES: u32 = 2;

/// Bytes of a greeting.
pub const GREETING: usize = 18;
/// Bytes of a client's flags.
pub const CLIENT_FLAGS: usize = 4;
/// Bytes in front of an option's data.
pub const OPTION_HEADER: usize = 16;
/// Bytes in front of a reply's data.
pub const REPLY_HEADER: usize = 20;

/// The greeting of a server that speaks the fixed newstyle.
pub fn greeting() -> [u8; GREETING] {
    let mut bytes = [0; GREETING];
    let flags = (FIXED_NEWSTYLE | NO_ZEROES) as u16;
    let parts = MAGIC.to_be_bytes().into_iter().chain(OPTION_MAGIC.to_be_bytes());
    for (place, byte) in bytes.iter_mut().zip(parts.chain(flags.to_be_bytes())) {
        *place = byte;
    }
    bytes
}

/// A server's handshake flags.
pub fn decode_greeting(bytes: &[u8; GREETING]) -> Result<u16, Malformed> {
    let mut cursor = Cursor::new(bytes);
    for magic in [MAGIC, OPTION_MAGIC] {
        let said = cursor.u64()?;
        if said != magic {
            return Err(Malformed::Magic(said));
        }
    }
    let flags = cursor.u16()?;
    match u32::from(flags) & FIXED_NEWSTYLE {
        0 => Err(Malformed::Number(flags.into())),
        _ => Ok(flags),
    }
}

/// A client's flags: whether it wants no zeroes. Unknown flags end the session.
pub fn decode_client_flags(bytes: [u8; CLIENT_FLAGS]) -> Result<bool, Malformed> {
    let flags = u32::from_be_bytes(bytes);
    let known = flags & !(FIXED_NEWSTYLE | NO_ZEROES) == 0;
    match known && flags & FIXED_NEWSTYLE != 0 {
        true => Ok(flags & NO_ZEROES != 0),
        false => Err(Malformed::Number(flags.into())),
    }
}

/// What stands in front of an option's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionHeader {
    /// Its number: [`OptionCode::from_code`].
    pub code: u32,
    /// Bytes of its data.
    pub len: u32,
}

impl OptionHeader {
    /// Reads it.
    pub fn decode(bytes: &[u8; OPTION_HEADER]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u64()?;
        match magic == OPTION_MAGIC {
            true => Ok(Self { code: cursor.u32()?, len: cursor.u32()? }),
            false => Err(Malformed::Magic(magic)),
        }
    }
}

/// Writes an option with its data, as a client does.
pub fn encode_option(out: &mut Vec<u8>, code: OptionCode, data: &[u8]) {
    out.extend(OPTION_MAGIC.to_be_bytes());
    out.extend(code.code().to_be_bytes());
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(data);
}

/// Kind of a reply to an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// `NBD_REP_ACK`: done.
    Ack,
    /// `NBD_REP_SERVER`: one export of a list.
    Server,
    /// `NBD_REP_INFO`: something about the export.
    Info,
    /// `NBD_REP_META_CONTEXT`: one context.
    MetaContext,
    /// The option failed.
    Error(Refusal),
    /// A kind that is not known. Errors have the highest bit.
    Unknown(u32),
}

/// Why an option failed: `NBD_REP_ERR_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `UNSUP`.
    #[error("the option is not known")]
    Unsupported,
    /// `POLICY`.
    #[error("the server's policy forbids it")]
    Policy,
    /// `INVALID`.
    #[error("the option makes no sense")]
    Invalid,
    /// `PLATFORM`.
    #[error("the server's platform lacks it")]
    Platform,
    /// `TLS_REQD`.
    #[error("the server wants TLS")]
    TlsRequired,
    /// `UNKNOWN`.
    #[error("there is no such export")]
    UnknownExport,
    /// `SHUTDOWN`.
    #[error("the server shuts down")]
    ShuttingDown,
    /// `BLOCK_SIZE_REQD`.
    #[error("the server wants its block sizes to be asked for")]
    BlockSizeRequired,
    /// `TOO_BIG`.
    #[error("the option is too large")]
    TooBig,
    /// `EXT_HEADER_REQD`.
    #[error("it needs extended headers")]
    ExtendedHeadersRequired,
}

/// The highest bit of a reply's kind.
const ERROR: u32 = 1 << 31;

impl ReplyKind {
    /// Its number.
    pub const fn code(self) -> u32 {
        match self {
            Self::Ack => 1,
            Self::Server => 2,
            Self::Info => 3,
            Self::MetaContext => 4,
            Self::Error(refusal) => ERROR | refusal.number(),
            Self::Unknown(code) => code,
        }
    }

    /// What a number means.
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Ack,
            2 => Self::Server,
            3 => Self::Info,
            4 => Self::MetaContext,
            _ if code & ERROR != 0 => match Refusal::from_number(code & !ERROR) {
                Some(refusal) => Self::Error(refusal),
                None => Self::Unknown(code),
            },
            _ => Self::Unknown(code),
        }
    }
}

impl Refusal {
    const ALL: [Self; 10] = [
        Self::Unsupported,
        Self::Policy,
        Self::Invalid,
        Self::Platform,
        Self::TlsRequired,
        Self::UnknownExport,
        Self::ShuttingDown,
        Self::BlockSizeRequired,
        Self::TooBig,
        Self::ExtendedHeadersRequired,
    ];

    const fn number(self) -> u32 {
        self as u32 + 1
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1..=10 => Some(Self::ALL[number as usize - 1]),
            _ => None,
        }
    }
}

/// What stands in front of a reply's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeader {
    /// Number of the option it answers.
    pub option: u32,
    /// Kind.
    pub kind: ReplyKind,
    /// Bytes of its data.
    pub len: u32,
}

impl ReplyHeader {
    /// Reads it.
    pub fn decode(bytes: &[u8; REPLY_HEADER]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u64()?;
        if magic != REPLY_MAGIC {
            return Err(Malformed::Magic(magic));
        }
        let (option, kind, len) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        Ok(Self { option, kind: ReplyKind::from_code(kind), len })
    }
}

/// Writes a reply to option number `option` with its data, as a server does.
pub fn encode_reply(out: &mut Vec<u8>, option: u32, kind: ReplyKind, data: &[u8]) {
    out.extend(REPLY_MAGIC.to_be_bytes());
    out.extend(option.to_be_bytes());
    out.extend(kind.code().to_be_bytes());
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(data);
}
