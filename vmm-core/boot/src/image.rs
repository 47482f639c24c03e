//! A file that is to be loaded: read by position, straight into guest memory.
//!
//! Its length is asked once, and it may shrink afterwards: then a read comes short and the file is
//! called damaged. Between two pieces of a long read the caller gets a word in: loading a kernel takes as
//! long as a disk wants it to, and a process that is asked whether it lives must answer meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bulkhead_memory::{GuestMemory, GuestRange};

use crate::error::BootError;

/// Bytes between two breaths.
const PIECE: u64 = 1 << 20;

/// An open file and what to call it.
pub(crate) struct Image<'f> {
    file: &'f File,
    breathe: &'f dyn Fn(),
    what: &'static str,
    len: u64,
}

impl<'f> Image<'f> {
    pub fn new(
        file: &'f File,
        what: &'static str,
        breathe: &'f dyn Fn(),
    ) -> Result<Self, BootError> {
        let len = bulkhead_sys::file::size(file)
            .map_err(|error| BootError::Unreadable { what, error })?;
        Ok(Self { file, breathe, what, len })
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// The error for a file that contradicts itself.
    pub fn damaged(&self, fault: &'static str) -> BootError {
        BootError::Damaged { what: self.what, fault }
    }

    fn unreadable(&self, error: io::Error) -> BootError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            _ => BootError::Unreadable { what: self.what, error },
        }
    }

    /// Fills `to` from `position`; an error if the file ends before.
    pub fn read(&self, position: u64, to: &mut [u8]) -> Result<(), BootError> {
        self.file.read_exact_at(to, position).map_err(|error| self.unreadable(error))
    }

    /// Reads a plain value.
    pub fn read_obj<T: bulkhead_memory::ByteValued>(&self, position: u64) -> Result<T, BootError> {
        let mut value = T::zeroed();
        self.read(position, value.as_mut_slice())?;
        Ok(value)
    }

    /// Reads `range.len` bytes from `position` into guest memory.
    pub fn read_to_guest(
        &self,
        position: u64,
        memory: &GuestMemory,
        range: GuestRange,
    ) -> Result<(), BootError> {
        let mut done = 0;
        while done < range.len {
            (self.breathe)();
            let piece = (range.len - done).min(PIECE);
            let rest = memory.check(GuestRange::new(range.addr + done, piece))?;
            match rest.fill_from(self.file, position + done) {
                Ok(0) => return Err(self.unreadable(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => done += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        Ok(())
    }
}
