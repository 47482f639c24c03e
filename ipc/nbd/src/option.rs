//! What options carry ("Option types") and what their replies tell.

use crate::cursor::{Cursor, Malformed, text};

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionCode {
    /// Ends the handshake; the oldest way, which cannot fail politely.
    ExportName,
    /// Ends the session.
    Abort,
    /// Names of exports.
    List,
    /// TLS from here on.
    StartTls,
    /// About an export.
    Info,
    /// About an export, and ends the handshake.
    Go,
    /// Structured replies.
    StructuredReply,
    /// Names of metadata contexts.
    ListMetaContext,
    /// Chooses metadata contexts.
    SetMetaContext,
    /// Lengths of 64 bits.
    ExtendedHeaders,
}

impl OptionCode {
    /// Its number.
    pub const fn code(self) -> u32 {
        match self {
            Self::ExportName => 1,
            Self::Abort => 2,
            Self::List => 3,
            Self::StartTls => 5,
            Self::Info => 6,
            Self::Go => 7,
            Self::StructuredReply => 8,
            Self::ListMetaContext => 9,
            Self::SetMetaContext => 10,
            Self::ExtendedHeaders => 11,
        }
    }

    /// The option of that number.
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::ExportName,
            2 => Self::Abort,
            3 => Self::List,
            5 => Self::StartTls,
            6 => Self::Info,
            7 => Self::Go,
            8 => Self::StructuredReply,
            9 => Self::ListMetaContext,
            10 => Self::SetMetaContext,
            11 => Self::ExtendedHeaders,
            _ => return None,
        })
    }
}

/// What a client may ask of an export: `NBD_INFO_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InfoCode {
    /// Size and transmission flags.
    Export,
    /// Its canonical name.
    Name,
    /// A text for people.
    Description,
    /// Block sizes.
    BlockSize,
}

impl InfoCode {
    const fn code(self) -> u16 {
        self as u16
    }

    /// The kind of information of that number.
    pub const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            0 => Self::Export,
            1 => Self::Name,
            2 => Self::Description,
            3 => Self::BlockSize,
            _ => return None,
        })
    }
}

/// `NBD_OPT_INFO` and `NBD_OPT_GO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfoQuery<'a> {
    /// The export; empty: the default one.
    pub name: &'a str,
    /// What is asked for besides size and flags. Unknown numbers are left out.
    pub wanted: Vec<InfoCode>,
}

impl<'a> InfoQuery<'a> {
    /// Reads the option's data.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(data);
        let name = cursor.text()?;
        let count = cursor.u16()?;
        let mut wanted = Vec::new();
        for _ in 0..count {
            wanted.extend(InfoCode::from_code(cursor.u16()?));
        }
        cursor.end()?;
        Ok(Self { name, wanted })
    }

    /// The option's data.
    pub fn encode(&self) -> Vec<u8> {
        let mut data = Vec::new();
        push_text(&mut data, self.name);
        data.extend((self.wanted.len() as u16).to_be_bytes());
        data.extend(self.wanted.iter().flat_map(|wanted| wanted.code().to_be_bytes()));
        data
    }
}

/// `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextQuery<'a> {
    /// The export.
    pub export: &'a str,
    /// Names of contexts; empty: all in a list, none in a choice.
    pub queries: Vec<&'a str>,
}

impl<'a> ContextQuery<'a> {
    /// Reads the option's data.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(data);
        let export = cursor.text()?;
        let count = cursor.u32()?;
        // Each takes its length at least: more can never follow, whatever was said.
        if count as usize > cursor.rest().len() / 4 {
            return Err(Malformed::Short);
        }
        let queries = (0..count).map(|_| cursor.text()).collect::<Result<_, _>>()?;
        cursor.end()?;
        Ok(Self { export, queries })
    }

    /// The option's data.
    pub fn encode(&self) -> Vec<u8> {
        let mut data = Vec::new();
        push_text(&mut data, self.export);
        data.extend((self.queries.len() as u32).to_be_bytes());
        for query in &self.queries {
            push_text(&mut data, query);
        }
        data
    }
}

/// The name that `NBD_OPT_EXPORT_NAME` carries.
pub fn decode_export_name(data: &[u8]) -> Result<&str, Malformed> {
    text(data)
}

fn push_text(data: &mut Vec<u8>, text: &str) {
    data.extend((text.len() as u32).to_be_bytes());
    data.extend(text.as_bytes());
}

/// Transmission flags ("Transmission flags").
pub mod flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// Flush is served.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// Forced unit access is served.
    pub const SEND_FUA: u16 = 1 << 3;
    /// Trim is served.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// Write-zeroes is served.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// Reads may ask not to be fragmented.
    pub const SEND_DF: u16 = 1 << 7;
    /// What one connection has flushed is safe for all of them.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// Cache is served.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// Write-zeroes may ask to be fast or to fail.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// What `NBD_REP_INFO` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Info<'a> {
    /// Size in bytes and [`flag`]s.
    Export {
        /// Bytes.
        size: u64,
        /// Flags.
        flags: u16,
    },
    /// Its name.
    Name(&'a str),
    /// A text for people.
    Description(&'a str),
    /// Block sizes in bytes.
    BlockSize {
        /// Smallest unit of a request.
        minimum: u32,
        /// What is fastest.
        preferred: u32,
        /// Longest payload.
        maximum: u32,
    },
}

impl<'a> Info<'a> {
    /// The reply's data.
    pub fn encode(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut put = |code: InfoCode, bytes: &[u8]| {
            data.extend(code.code().to_be_bytes());
            data.extend(bytes);
        };
        match self {
            Self::Export { size, flags } => {
                put(InfoCode::Export, &export_tail(*size, *flags));
            }
            Self::Name(name) => put(InfoCode::Name, name.as_bytes()),
            Self::Description(text) => put(InfoCode::Description, text.as_bytes()),
            Self::BlockSize { minimum, preferred, maximum } => {
                let sizes = [minimum, preferred, maximum].map(|size| size.to_be_bytes());
                put(InfoCode::BlockSize, sizes.as_flattened());
            }
        }
        data
    }

    /// Reads the reply's data; `None`: a kind that is not known.
    pub fn decode(data: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut cursor = Cursor::new(data);
        Ok(match InfoCode::from_code(cursor.u16()?) {
            Some(InfoCode::Export) => {
                let (size, flags) = (cursor.u64()?, cursor.u16()?);
                cursor.end()?;
                Some(Self::Export { size, flags })
            }
            Some(InfoCode::Name) => Some(Self::Name(text(cursor.rest())?)),
            Some(InfoCode::Description) => Some(Self::Description(text(cursor.rest())?)),
            Some(InfoCode::BlockSize) => {
                let (minimum, preferred, maximum) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
                cursor.end()?;
                Some(Self::BlockSize { minimum, preferred, maximum })
            }
            None => None,
        })
    }
}

/// Size and flags as they also end the answer to `NBD_OPT_EXPORT_NAME`.
pub fn export_tail(size: u64, flags: u16) -> [u8; 10] {
    let mut bytes = [0; 10];
    for (place, byte) in
        bytes.iter_mut().zip(size.to_be_bytes().into_iter().chain(flags.to_be_bytes()))
    {
        *place = byte;
    }
    bytes
}

/// Data of `NBD_REP_SERVER`.
pub fn encode_server(name: &str, description: &str) -> Vec<u8> {
    let mut data = Vec::new();
    push_text(&mut data, name);
    data.extend(description.as_bytes());
    data
}

/// Data of `NBD_REP_META_CONTEXT`.
pub fn encode_context(id: u32, name: &str) -> Vec<u8> {
    let mut data = id.to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data
}

/// Number and name of a context that `NBD_REP_META_CONTEXT` tells.
pub fn decode_context(data: &[u8]) -> Result<(u32, &str), Malformed> {
    let mut cursor = Cursor::new(data);
    let id = cursor.u32()?;
    Ok((id, text(cursor.rest())?))
}
