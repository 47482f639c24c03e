//! The one file that opens.
//!
//! Called by the plan, and after the seal by attestation. Every open goes through `openat2`. A user's
//! path is resolved as the user would, but never through a magic link of `/proc`, which would name a
//! descriptor of this process. Below a root (the binaries' directory, the runtime directory, `/proc`)
//! nothing may lead out of it and no symbolic link is followed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::dir::{Dir, Entry, Type};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, fstat};

/// No text that is read here is longer than this.
const LONGEST_TEXT: usize = 1 << 20;

/// What an opened path turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// A socket.
    Socket,
    /// A FIFO, or something newer.
    Other,
}

/// A path that was found and not yet opened: nothing happens to what it names.
#[derive(Debug)]
pub struct Found {
    path: OwnedFd,
    /// What it names.
    pub kind: Kind,
    stat: FileStat,
}

/// Which object an image is, whatever its path: device and inode, or a block device's number and 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `st_dev`, or `st_rdev` of a block device.
    pub device: u64,
    /// `st_ino`, or 0 for a block device.
    pub inode: u64,
}

impl Found {
    /// Opens what was found. It is the same object even if the path leads elsewhere by now.
    pub fn open(&self, flags: OFlag) -> io::Result<OwnedFd> {
        reopen(&self.path, flags)
    }

    /// Which object it is.
    pub fn identity(&self) -> Identity {
        match self.kind {
            Kind::BlockDevice => Identity { device: self.stat.st_rdev, inode: 0 },
            _ => Identity { device: self.stat.st_dev, inode: self.stat.st_ino },
        }
    }

    /// Its size in bytes, if it is a regular file.
    pub fn len(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// Whether it is an empty file.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The path itself: for a directory, the root of [`beneath`].
    pub fn into_fd(self) -> OwnedFd {
        self.path
    }
}

/// Opens once more, and perhaps otherwise, what a descriptor names.
pub fn reopen(fd: impl AsFd, flags: OFlag) -> io::Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY);
    Ok(openat2(AT_FDCWD, link.as_str(), how)?)
}

/// Finds a user's path, relative to the working directory.
pub fn find(path: &Path) -> io::Result<Found> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    found(openat2(AT_FDCWD, path, how)?)
}

/// Opens `path` below `root`, without links.
pub fn beneath(root: impl AsFd, path: &str, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(root, path, how)?)
}

/// Reads a small text file below `root`. Only what a sealed supervisor may call is called.
pub fn read_text(root: impl AsFd, path: &str) -> io::Result<String> {
    let file = beneath(root, path, OFlag::O_RDONLY, Mode::empty())?;
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match nix::unistd::read(&file, &mut chunk)? {
            0 => return String::from_utf8(text).map_err(io::Error::other),
            len => text.extend_from_slice(chunk.get(..len).unwrap_or_default()),
        }
        if text.len() > LONGEST_TEXT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

/// Names in a folder below `root`, without `.` and `..`.
pub fn names(root: impl AsFd, path: &str) -> io::Result<Vec<String>> {
    list(root, path, |_| true)
}

/// Names of the folders in a folder below `root`, without `.` and `..`.
pub fn folders(root: impl AsFd, path: &str) -> io::Result<Vec<String>> {
    list(root, path, |entry| entry.file_type() == Some(Type::Directory))
}

fn list(root: impl AsFd, path: &str, keep: fn(&Entry) -> bool) -> io::Result<Vec<String>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let dir = Dir::from_fd(beneath(root, path, flags, Mode::empty())?)?;
    // Owned: an iterator that borrows would seek back to the start.
    let entries = dir.into_iter().flatten().filter(keep);
    let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    Ok(names.filter(|name| name != "." && name != "..").collect())
}

fn found(path: OwnedFd) -> io::Result<Found> {
    let stat = fstat(path.as_fd())?;
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFBLK => Kind::BlockDevice,
        libc::S_IFCHR => Kind::CharacterDevice,
        libc::S_IFSOCK => Kind::Socket,
        _ => Kind::Other,
    };
    Ok(Found { path, kind, stat })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_exchanged_after_it_was_found_opens_what_was_found() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&path, "first").unwrap();
        std::fs::write(&other, "second").unwrap();
        let found = find(&path).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let file = std::fs::File::from(found.open(OFlag::O_RDONLY).unwrap());
        assert_eq!(std::io::read_to_string(file).unwrap(), "first");
    }

    #[test]
    fn finding_a_fifo_does_not_wait_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR).unwrap();
        assert_eq!(find(&path).unwrap().kind, Kind::Other);
    }

    #[test]
    fn a_descriptor_of_this_process_is_no_users_path() {
        let error = find(Path::new("/proc/self/fd/0")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn nothing_leads_out_of_a_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("root/link")).unwrap();
        let root = find(&dir.path().join("root")).unwrap().into_fd();
        for path in ["link", "../root", "/etc/passwd"] {
            assert!(beneath(&root, path, OFlag::O_RDONLY, Mode::empty()).is_err(), "{path}");
        }
    }
}
