//! Image locks that QEMU, its tools and we all respect.
//!
//! Called by the plan, and when a layer comes to be written or ceases to be. The bytes are those of QEMU's file driver (`raw_apply_lock_bytes` and
//! `raw_check_lock_bytes` in block/file-posix.c): whoever uses a permission holds a shared lock on
//! byte 100 + its number, whoever will not share one holds a shared lock on byte 200 + its number; one
//! takes one's own bytes first and then asks whether anyone holds a byte of the other side.
//!
//! The locks are held twice: by a description that never leaves the supervisor, which no helper can
//! give back, and by the image's own description, which the block-layer has too. So the image stays
//! locked while a block-layer is dead, and while a block-layer still dies whose supervisor was killed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_sys::file_lock::{LockKind, is_blocked, try_lock, unlock};

/// First byte of the permissions in use.
const USED: u64 = 100;

/// First byte of the permissions not shared.
const UNSHARED: u64 = 200;

/// QEMU's numbers of permissions.
#[derive(Debug, Clone, Copy)]
enum Permission {
    /// Reads see what was written.
    ConsistentRead = 0,
    /// The guest's data may change.
    Write = 1,
    /// The size may change.
    Resize = 3,
}

/// What the image is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Reading: with other readers, with no writer.
    Read,
    /// Writing: alone.
    Write,
}

impl Use {
    fn used(self) -> &'static [Permission] {
        match self {
            Self::Read => &[Permission::ConsistentRead],
            Self::Write => &[Permission::ConsistentRead, Permission::Write],
        }
    }

    /// Nobody else may write or resize; a writer needs no more, since every reader refuses to share
    /// these two itself.
    fn unshared(self) -> &'static [Permission] {
        &[Permission::Write, Permission::Resize]
    }

    fn own_bytes(self) -> impl Iterator<Item = u64> {
        let used = self.used().iter().map(|p| USED + *p as u64);
        used.chain(self.unshared().iter().map(|p| UNSHARED + *p as u64))
    }

    fn others_bytes(self) -> impl Iterator<Item = u64> {
        let used = self.used().iter().map(|p| UNSHARED + *p as u64);
        used.chain(self.unshared().iter().map(|p| USED + *p as u64))
    }
}

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody uses it in a way that excludes ours.
    #[error("it is locked by another program")]
    Taken,
    /// Its file system has no such locks.
    #[error("it cannot be locked: {0}")]
    Host(#[from] io::Error),
}

/// The locks of one image, freed when this and all duplicates of the image's descriptor are closed.
#[derive(Debug)]
pub struct ImageLock {
    /// Never passed on.
    own: OwnedFd,
}

impl ImageLock {
    /// Locks an image for `purpose`. `own` is a second, separately opened description of it.
    pub fn take(image: BorrowedFd<'_>, own: OwnedFd, purpose: Use) -> Result<ImageLock, LockError> {
        hold(own.as_fd(), purpose)?;
        for byte in purpose.others_bytes() {
            if is_blocked(&own, LockKind::Exclusive, byte, 1)? {
                return Err(LockError::Taken);
            }
        }
        hold(image, purpose)?;
        Ok(ImageLock { own })
    }

    /// From reading to writing: `old` is the image's description, `new` the one that takes its place. On an
    /// error all is as it was.
    pub fn widen(&self, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<(), LockError> {
        release(old)?;
        let widened = self.try_widen(new);
        if widened.is_err() {
            release(new)?;
            release(self.own.as_fd())?;
            hold(self.own.as_fd(), Use::Read)?;
            hold(old, Use::Read)?;
        }
        widened
    }

    fn try_widen(&self, new: BorrowedFd<'_>) -> Result<(), LockError> {
        hold(self.own.as_fd(), Use::Write)?;
        for byte in Use::Write.others_bytes() {
            if is_blocked(&self.own, LockKind::Exclusive, byte, 1)? {
                return Err(LockError::Taken);
            }
        }
        hold(new, Use::Write)
    }

    /// From writing to reading: `old` is the image's description, `new` the one that takes its place.
    pub fn narrow(&self, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> io::Result<()> {
        let held = |result: Result<(), LockError>| match result {
            Err(LockError::Host(error)) => Err(error),
            // Nobody excludes a reader as long as we do not share writing.
            _ => Ok(()),
        };
        held(hold(new, Use::Read))?;
        release(old)?;
        let written = USED + Permission::Write as u64;
        unlock(&self.own, written, 1)
    }
}

fn release(fd: BorrowedFd<'_>) -> io::Result<()> {
    unlock(fd, USED, UNSHARED - USED + 8)
}

/// Takes our own bytes. They are shared locks, so only a foreign exclusive lock is in the way.
fn hold(fd: BorrowedFd<'_>, purpose: Use) -> Result<(), LockError> {
    for byte in purpose.own_bytes() {
        if !try_lock(fd, LockKind::Shared, byte, 1)? {
            release(fd)?;
            return Err(LockError::Taken);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
