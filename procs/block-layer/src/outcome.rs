//! How a request ended.

use std::io;

/// The errno a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", io::Error::from_raw_os_error(self.0 as i32))]
pub struct Failure(u32);

/// How a request ended.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// The request makes no sense.
    pub const INVALID: Self = Self(22);
    /// The image or the export is read-only.
    pub const READ_ONLY: Self = Self(1);
    /// The device failed, or the image is not what it was.
    pub const IO: Self = Self(5);
    /// The host has no room left.
    pub const NO_SPACE: Self = Self(28);
    /// The format has no room left.
    pub const TOO_LARGE: Self = Self(27);
    /// This disk has no such operation.
    pub const UNSUPPORTED: Self = Self(95);
    /// The requester is gone: the request was not performed, or nobody asks any more whether it was.
    pub const DISCARDED: Self = Self(125);

    /// The failure of an errno.
    pub const fn of(errno: u16) -> Self {
        Self(errno as u32)
    }

    /// The positive errno.
    pub const fn errno(self) -> u32 {
        self.0
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) if errno > 0 => Self(errno.unsigned_abs()),
            _ => Self::IO,
        }
    }
}

/// The number a completion carries.
pub fn status(outcome: Outcome) -> u32 {
    match outcome {
        Ok(()) => 0,
        Err(failure) => failure.errno(),
    }
}
