//! "Error values": the few numbers that an error may have on the wire, whatever the host calls it.

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `NBD_EPERM`.
    #[error("not permitted")]
    NotPermitted,
    /// `NBD_EIO`.
    #[error("input/output error")]
    Io,
    /// `NBD_ENOMEM`.
    #[error("out of memory")]
    NoMemory,
    /// `NBD_EINVAL`.
    #[error("invalid request")]
    Invalid,
    /// `NBD_ENOSPC`.
    #[error("no space left")]
    NoSpace,
    /// `NBD_EOVERFLOW`.
    #[error("too large")]
    Overflow,
    /// `NBD_ENOTSUP`.
    #[error("not supported")]
    Unsupported,
    /// `NBD_ESHUTDOWN`.
    #[error("the server shuts down")]
    ShuttingDown,
}

impl Error {
    /// Its number on the wire, which is never 0.
    pub const fn code(self) -> u32 {
        match self {
            Self::NotPermitted => 1,
            Self::Io => 5,
            Self::NoMemory => 12,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Overflow => 75,
            Self::Unsupported => 95,
            Self::ShuttingDown => 108,
        }
    }

    /// What a number on the wire means; a number nobody defined is what the standard says of it: invalid.
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::NotPermitted,
            5 => Self::Io,
            12 => Self::NoMemory,
            28 => Self::NoSpace,
            75 => Self::Overflow,
            95 => Self::Unsupported,
            108 => Self::ShuttingDown,
            _ => Self::Invalid,
        }
    }

    /// What a Linux errno is called on the wire: those that have no name there are `EIO`, but for the two
    /// that mean "no space".
    pub const fn from_errno(errno: u32) -> Self {
        const EFBIG: u32 = 27;
        const EDQUOT: u32 = 122;
        match errno {
            EFBIG | EDQUOT => Self::NoSpace,
            1 | 12 | 22 | 28 | 75 | 95 | 108 => Self::from_code(errno),
            _ => Self::Io,
        }
    }
}
