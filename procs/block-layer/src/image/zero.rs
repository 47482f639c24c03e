//! Discard and write-zeroes, with what stands in for them where the host lacks them.
//!
//! `fallocate` serves files and block devices alike: on a device it makes zeroes and fails where that
//! would mean writing them, which is then done here.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhead_sys::block_device;
use bulkhead_sys::file::{self, FileKind};

use super::Image;
use crate::outcome::{Failure, Outcome};

/// `EOPNOTSUPP`.
const UNSUPPORTED: i32 = 95;

/// `EINVAL`: what a device without the command, or an old file system, may answer instead.
const INVALID: i32 = 22;

/// What is done where the host cannot make zeroes without their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// They are written.
    Write,
    /// Nothing, and it is an error.
    Refuse,
}

/// Kinds of `fallocate` that this file was found to lack.
#[derive(Debug, Default)]
pub(super) struct Refused {
    punch: AtomicBool,
    zero: AtomicBool,
    discard: AtomicBool,
}

impl Image {
    /// The range is no longer needed. A host that cannot give it back keeps it: no error.
    pub(super) fn discard(&self, at: u64, len: u64) -> Outcome {
        let known = &self.refused;
        let done = match self.kind {
            FileKind::BlockDevice => {
                try_once(&known.discard, || block_device::discard(&self.file, at, len))
            }
            _ => try_once(&known.punch, || file::punch_hole(&self.file, at, len)),
        }?;
        let _given_back_or_kept: Done = done;
        Ok(())
    }

    /// The range reads as zeroes afterwards.
    pub(super) fn zero(
        &self,
        at: u64,
        len: u64,
        unmap: bool,
        otherwise: Otherwise,
        revoked: &AtomicBool,
    ) -> Outcome {
        let known = &self.refused;
        let punch = || try_once(&known.punch, || file::punch_hole(&self.file, at, len));
        let zero = || try_once(&known.zero, || file::zero_range(&self.file, at, len));
        if unmap && punch()? == Done::Yes {
            return Ok(());
        }
        if zero()? == Done::Yes {
            return Ok(());
        }
        match otherwise {
            Otherwise::Write => self.write_zeroes(at, len, revoked),
            Otherwise::Refuse => Err(Failure::UNSUPPORTED),
        }
    }

    fn write_zeroes(&self, at: u64, len: u64, revoked: &AtomicBool) -> Outcome {
        let mut done = 0;
        while done < len {
            if revoked.load(Ordering::Acquire) {
                return Err(Failure::DISCARDED);
            }
            let left = usize::try_from(len - done).unwrap_or(usize::MAX);
            match file::write_zeroes_at(&self.file, at + done, left) {
                Ok(0) => return Err(Failure::IO),
                Ok(count) => done += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Yes,
    NotHere,
}

/// Calls unless it was refused before; remembers a refusal.
fn try_once(refused: &AtomicBool, call: impl Fn() -> io::Result<()>) -> Result<Done, Failure> {
    if refused.load(Ordering::Relaxed) {
        return Ok(Done::NotHere);
    }
    loop {
        return match call() {
            Ok(()) => Ok(Done::Yes),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.raw_os_error(), Some(UNSUPPORTED | INVALID)) => {
                refused.store(true, Ordering::Relaxed);
                Ok(Done::NotHere)
            }
            Err(error) => Err(error.into()),
        };
    }
}
