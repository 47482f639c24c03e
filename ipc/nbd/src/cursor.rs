//! Taking numbers and texts off the front of bytes.

use crate::LONGEST_NAME;

/// A peer's bytes do not have the form they must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end too early.
    #[error("it is too short")]
    Short,
    /// Something follows that does not belong to it.
    #[error("it is too long")]
    Long,
    /// A text that is too long or no UTF-8.
    #[error("it names something by no valid text")]
    Text,
    /// A number at the start that says what it is says something else.
    #[error("it begins with {0:#x}, which is no magic number")]
    Magic(u64),
    /// A number that may not be there.
    #[error("it has the number {0:#x} where that may not be")]
    Number(u64),
}

/// What has not been taken yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(first)
    }

    /// A text behind its length of 32 bits.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.u32()? as usize;
        if len > LONGEST_NAME {
            return Err(Malformed::Text);
        }
        text(self.take(len)?)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Malformed::Long),
        }
    }
}

/// A text of the protocol: UTF-8 without a zero byte, not too long.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > LONGEST_NAME || bytes.contains(&0) {
        return Err(Malformed::Text);
    }
    std::str::from_utf8(bytes).map_err(|_| Malformed::Text)
}
