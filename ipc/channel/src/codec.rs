//! Bytes to messages and back: the one file that knows bincode.
//!
//! bincode is frozen upstream, so it is kept where it can be exchanged. The limit bounds what a
//! hostile length field can make the decoder allocate; trailing bytes are refused, so that a message
//! has one meaning.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes a decoder may read or allocate for one value.
pub const LIMIT: usize = 64 * 1024;

type Codec = Configuration<LittleEndian, Fixint, Limit<LIMIT>>;

const CODEC: Codec = bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT>();

/// Why bytes are no message, or a value is none.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not an encoding of the type.
    #[error("not a message of this protocol: {0}")]
    Decode(String),
    /// The message is followed by bytes that belong to nothing.
    #[error("{0} bytes too many after the message")]
    Trailing(usize),
    /// The value is too large to be sent.
    #[error("the message cannot be encoded: {0}")]
    Encode(String),
}

/// Encodes `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, CODEC)
        .map_err(|error| CodecError::Encode(error.to_string()))
}

/// Decodes all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, CODEC)
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        rest => Err(CodecError::Trailing(rest)),
    }
}
