//! A listening socket at a path, there only while somebody serves it.
//!
//! Called by the plan ([`Listener::bind`]) and by the live instance. The socket is bound under a
//! temporary name in the same folder and takes its own name when its server is ready
//! ([`Listener::publish`]), so that a client that sees it is served. Dropped: removed.
//!
//! Paths are reached through `/proc/self/fd`, because the kernel takes no address longer than 107
//! bytes, and because the folder must not be exchanged between two steps.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, RenameFlags, readlinkat, renameat2};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::dial::is_stale;

/// Connections the kernel keeps for us while a server is replaced.
pub const BACKLOG: i32 = 128;

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there.
    #[error("another program listens there")]
    Taken,
    /// Something that is no socket has the name.
    #[error("there is a file of this name that is no socket")]
    NoSocket,
    /// The path has no last part.
    #[error("it names no file")]
    NoName,
    /// The kernel refused.
    #[error(transparent)]
    Host(#[from] io::Error),
}

/// What crosses the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// vhost-user.
    Stream,
    /// Our channels.
    Messages,
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    folder: OwnedFd,
    name: String,
    /// Name it has at this moment.
    present: String,
    inode: u64,
}

impl Listener {
    /// Binds a socket in `folder` that will be `name`, as `hidden` for now.
    pub fn bind(folder: OwnedFd, name: &str, hidden: &str, traffic: Traffic) -> io::Result<Self> {
        let kind = match traffic {
            Traffic::Stream => SockType::Stream,
            Traffic::Messages => SockType::SeqPacket,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, kind, flags, None)?;
        let address = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(hidden);
        bind(socket.as_raw_fd(), &UnixAddr::new(&address)?)?;
        let inode = fstatat(&folder, hidden, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_ino;
        let listener = Self {
            socket: socket.into(),
            folder,
            name: name.to_owned(),
            present: hidden.to_owned(),
            inode,
        };
        listen(&listener.socket, Backlog::new(BACKLOG)?)?;
        Ok(listener)
    }

    /// Gives the socket its own name, unless it has it. A name that was taken meanwhile is not
    /// replaced.
    pub fn publish(&mut self) -> io::Result<()> {
        if self.present == self.name {
            return Ok(());
        }
        let (old, new) = (self.present.as_str(), self.name.as_str());
        let flags = RenameFlags::RENAME_NOREPLACE;
        renameat2(&self.folder, old, &self.folder, new, flags)?;
        self.present = self.name.clone();
        Ok(())
    }

    /// Takes the next connection if one waits.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match self.socket.accept() {
            Ok((connection, _)) => Ok(Some(connection.into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let present = self.present.as_str();
        let found = fstatat(&self.folder, present, AtFlags::AT_SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| found.st_ino == self.inode) {
            let _ = unlinkat(&self.folder, present, UnlinkatFlags::NoRemoveDir);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A user's path for a socket, taken apart and found free.
#[derive(Debug)]
pub struct Place {
    folder: OwnedFd,
    name: String,
    /// Absolute path.
    pub path: PathBuf,
}

impl Place {
    /// Looks at `path`; changes nothing.
    pub fn find(path: &Path) -> Result<Self, ListenError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(ListenError::NoName)?.to_owned();
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = crate::open::find(parent)?.into_fd();
        // The folder's own path: links on the way are gone from it.
        let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let path = readlinkat(AT_FDCWD, link.as_str()).map_err(io::Error::from)?;
        let path = PathBuf::from(path).join(&name);
        match fstatat(&folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(ListenError::Host(error.into())),
            Ok(stat) if stat.st_mode & libc::S_IFMT != libc::S_IFSOCK => {
                return Err(ListenError::NoSocket);
            }
            Ok(_) if is_stale(&folder, &name) => {}
            Ok(_) => return Err(ListenError::Taken),
        }
        Ok(Self { folder, name, path })
    }

    /// Absolute path until it is served.
    pub fn hidden_path(&self) -> PathBuf {
        self.path.with_file_name(hidden_name(&self.name))
    }

    /// Binds there. A stale socket of the name is removed.
    pub fn bind(self, traffic: Traffic) -> io::Result<Listener> {
        let name = self.name.as_str();
        if is_stale(&self.folder, name) {
            unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir)?;
        }
        Listener::bind(self.folder, name, &hidden_name(name), traffic)
    }
}

/// Name of a socket in a foreign folder until it is served: of this process, and of this name
/// (FNV-1a).
fn hidden_name(name: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    format!(".bulkhead-{}-{hash:x}", std::process::id())
}

#[cfg(test)]
mod tests;
