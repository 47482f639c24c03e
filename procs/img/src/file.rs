//! Files: opened with the user's own rights, as the user named them, and locked as QEMU and our supervisor
//! lock theirs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bulkhead_protocol::block::RemotePlan;
use bulkhead_supervisor::images::lock::{ImageLock, LockError, Use};
use bulkhead_supervisor::images::owner;
use bulkhead_supervisor::open::{Found, Identity, Kind, find};
use nix::fcntl::OFlag;

use crate::server;

/// How a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// To be written.
    pub write: bool,
    /// Others may write it meanwhile.
    pub share: bool,
    /// Without the host's page cache.
    pub direct: bool,
}

impl Access {
    /// To be read, while nobody writes.
    pub const READ: Self = Self { write: false, share: false, direct: false };
    /// To be written, by nobody else.
    pub const WRITE: Self = Self { write: true, ..Self::READ };

    /// To be read, shared or not.
    pub fn reading(share: bool) -> Self {
        Self { share, ..Self::READ }
    }
}

/// An open file with its lock.
#[derive(Debug)]
pub struct OpenFile {
    /// As the user wrote it.
    pub path: PathBuf,
    /// The description that a block-tool gets.
    pub fd: OwnedFd,
    /// Which object it is.
    pub identity: Identity,
    /// Of an export, what is said of it.
    pub remote: Option<RemotePlan>,
    _lock: Option<ImageLock>,
}

impl OpenFile {
    /// Opens and locks what is there; an export is its server's to lock.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        if let Some(uri) = server::uri(path) {
            let (fd, remote) = server::connect(uri)?;
            return Self::unlocked(path, fd, Some(remote));
        }
        let found = found(path)?;
        let fail = |error: io::Error| anyhow::anyhow!("{}: {error}", path.display());
        let rights = if access.write { OFlag::O_RDWR } else { OFlag::O_RDONLY };
        let direct = if access.direct { OFlag::O_DIRECT } else { OFlag::empty() };
        let fd = found.open(rights | direct).map_err(fail)?;
        let lock = match access.share {
            true => None,
            false => Some(lock(path, &found, &fd, found.open(rights).map_err(fail)?, access)?),
        };
        Ok(Self {
            path: path.to_owned(),
            fd,
            identity: found.identity(),
            remote: None,
            _lock: lock,
        })
    }

    /// The passphrase in a file, in an object of its own.
    pub fn secret(path: &Path) -> Result<Self> {
        let object = bulkhead_supervisor::images::secret::take("--key-secret", path);
        let object = object.map_err(server::refused)?;
        Self::unlocked(path, object, None)
    }

    fn unlocked(path: &Path, fd: OwnedFd, remote: Option<RemotePlan>) -> Result<Self> {
        let stat = nix::sys::stat::fstat(&fd)?;
        let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
        Ok(Self { path: path.to_owned(), fd, identity, remote, _lock: None })
    }

    /// Bytes that it takes on the host, unless it is elsewhere.
    pub fn room(&self) -> Option<u64> {
        let stat = nix::sys::stat::fstat(&self.fd).ok().filter(|_| self.remote.is_none())?;
        Some(u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
    }
}

fn found(path: &Path) -> Result<Found> {
    let found = find(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    match found.kind {
        Kind::File | Kind::BlockDevice => Ok(found),
        Kind::Directory => bail!("{}: it is a directory; name an image in it", path.display()),
        _ => bail!("{}: it is neither a file nor a block device", path.display()),
    }
}

fn lock(
    path: &Path,
    found: &Found,
    fd: &OwnedFd,
    own: OwnedFd,
    access: Access,
) -> Result<ImageLock> {
    let purpose = if access.write { Use::Write } else { Use::Read };
    ImageLock::take(fd.as_fd(), own, purpose).map_err(|error| match error {
        LockError::Taken => {
            let owner = owner::name(&[], found.identity());
            let remedy = match access.write {
                true => "end that first",
                false => "end that first, or read it as it changes with -U",
            };
            anyhow::anyhow!("{}: it is locked by {owner}; {remedy}", path.display())
        }
        LockError::Host(_) => anyhow::anyhow!("{}: {error}", path.display()),
    })
}

/// A file that is made, or overwritten. Unless it is kept it goes away again, if it is ours.
#[derive(Debug)]
pub struct Fresh {
    /// It.
    pub file: OpenFile,
    /// It was there before.
    overwritten: bool,
    kept: bool,
}

impl Fresh {
    /// Makes it, or opens what is there and nobody uses.
    pub fn make(path: &Path) -> Result<Self> {
        if server::uri(path).is_some() {
            let file = OpenFile::open(path, Access::WRITE)?;
            return Ok(Self { file, overwritten: true, kept: false });
        }
        let mut how = File::options();
        how.write(true).create_new(true).custom_flags(OFlag::O_NOCTTY.bits());
        let overwritten = match how.open(path) {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
            Err(error) => bail!("{}: {error}", path.display()),
        };
        let file = OpenFile::open(path, Access::WRITE)?;
        Ok(Self { file, overwritten, kept: false })
    }

    /// The command succeeded.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// It was there before, and holds nothing of use if it was emptied.
    pub fn is_ruined(&self) -> bool {
        self.overwritten && !self.kept
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.kept || self.overwritten {
            return;
        }
        let path = &self.file.path;
        let identity = self.file.identity;
        let is_ours = std::fs::symlink_metadata(path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (identity.device, identity.inode));
        if is_ours {
            // It is half of something: nobody misses it if it cannot be removed.
            let _ = std::fs::remove_file(path);
        }
    }
}
