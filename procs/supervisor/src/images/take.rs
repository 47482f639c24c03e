//! Taking a file: found, opened as its user wants it, and locked.
//!
//! Called by the plan, and after the seal for the files of snapshots and jobs. So nothing here asks the host
//! what a sealed supervisor may not: who holds a lock is the caller's to find out.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::CacheMode;
use nix::fcntl::OFlag;

use super::lock::{ImageLock, LockError, Use};
use crate::open::{Found, Identity, Kind, find};
use crate::refusal::{refuse, refuse_path};

/// A file with its lock.
#[derive(Debug)]
pub struct LockedFile {
    /// The description that block-layers get.
    pub file: OwnedFd,
    /// Which object it is.
    pub identity: Identity,
    pub(super) lock: ImageLock,
}

/// A file as its user wants it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The option that names it.
    pub option: &'a str,
    /// Where.
    pub path: &'a Path,
    /// Host caching.
    pub cache: CacheMode,
    /// Refuse writes.
    pub read_only: bool,
}

/// Who holds a file that is locked.
pub type Owner<'a> = &'a dyn Fn(Identity) -> String;

enum Fault {
    Refused(Refusal),
    Locked,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Wanted<'_> {
    /// Takes it.
    pub fn take(&self, owner: Owner<'_>) -> Result<LockedFile, Refusal> {
        let found = find(self.path).map_err(|error| refuse_path(self.option, self.path, &error))?;
        self.take_found(&found, owner)
    }

    /// Takes what was found by its path.
    pub fn take_found(&self, found: &Found, owner: Owner<'_>) -> Result<LockedFile, Refusal> {
        let identity = found.identity();
        match self.open_and_lock(found) {
            Ok((file, lock)) => Ok(LockedFile { file, identity, lock }),
            Err(Fault::Refused(refusal)) => Err(refusal),
            Err(Fault::Locked) => {
                let reason = format!("it is locked by {}", owner(identity));
                Err(self.refuse(&reason, "end that first, or open it readonly in both"))
            }
        }
    }

    fn open_and_lock(&self, found: &Found) -> Result<(OwnedFd, ImageLock), Fault> {
        self.check_kind(found)?;
        let file = found.open(self.flags()).map_err(|error| self.host(&error))?;
        let own = found.open(self.flags() - OFlag::O_DIRECT);
        let own = own.map_err(|error| self.host(&error))?;
        let purpose = if self.read_only { Use::Read } else { Use::Write };
        let lock = ImageLock::take(file.as_fd(), own, purpose).map_err(|error| match error {
            LockError::Taken => Fault::Locked,
            LockError::Host(_) => Fault::Refused(self.refuse(
                &error.to_string(),
                "move it to a file system with open-file-description locks",
            )),
        })?;
        Ok((file, lock))
    }

    pub(super) fn flags(&self) -> OFlag {
        let access = match self.read_only {
            true => OFlag::O_RDONLY,
            false => OFlag::O_RDWR,
        };
        match self.cache {
            CacheMode::None => access | OFlag::O_DIRECT,
            CacheMode::Writeback | CacheMode::Unsafe => access,
        }
    }

    fn check_kind(&self, found: &Found) -> Result<(), Refusal> {
        match found.kind {
            Kind::File | Kind::BlockDevice => Ok(()),
            Kind::Directory => Err(self.refuse("it is a directory", "name an image in it")),
            Kind::Socket => {
                Err(self.refuse("it is a socket", "a vhost-user backend is vhost-user=SOCKET"))
            }
            _ => Err(self.refuse("it is no file or block device", "name an image")),
        }
    }

    /// What the host said, in the user's words.
    pub fn host(&self, error: &std::io::Error) -> Refusal {
        match error.raw_os_error() {
            Some(libc::EINVAL) if self.cache == CacheMode::None => {
                self.refuse("its file system has no direct I/O", "use cache=writeback")
            }
            Some(libc::EACCES | libc::EPERM) if !self.read_only => self.refuse(
                "you may not open it for writing",
                "check its permissions, or add readonly",
            ),
            _ => refuse_path(self.option, self.path, error),
        }
    }

    /// Refuses it.
    pub fn refuse(&self, reason: &str, remedy: &str) -> Refusal {
        refuse(self.option, self.path.display(), reason, remedy)
    }
}
