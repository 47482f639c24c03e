//! Connecting to a socket in a folder, without ever waiting.
//!
//! Called for foreign vhost-user backends and to see whether a socket is stale. An address is reached
//! through `/proc/self/fd`, since the kernel takes none longer than 107 bytes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::fstatat;

/// Connects a stream socket; `WouldBlock` if the listener's backlog is full.
pub fn dial(folder: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    dial_as(SockType::Stream, folder, name)
}

fn dial_as(kind: SockType, folder: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, kind, flags, None)?;
    let folder = folder.as_fd().as_raw_fd();
    let path = PathBuf::from(format!("/proc/self/fd/{folder}")).join(name);
    connect(socket.as_raw_fd(), &UnixAddr::new(&path)?)?;
    Ok(socket)
}

/// Whether `name` is a socket that nobody listens on.
pub fn is_stale(folder: impl AsFd, name: &str) -> bool {
    let folder = folder.as_fd();
    let is_socket = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFSOCK);
    let refused = Some(Errno::ECONNREFUSED as i32);
    is_socket && dial(folder, name).is_err_and(|error| error.raw_os_error() == refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_a_socket_without_a_listener_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        let _live = UnixListener::bind(dir.path().join("live")).unwrap();
        drop(UnixListener::bind(dir.path().join("dead")).unwrap());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(is_stale(&folder, "dead"));
        for name in ["live", "file", "none"] {
            assert!(!is_stale(&folder, name), "{name}");
        }
    }

    #[test]
    fn a_listener_that_never_accepts_makes_nobody_wait() {
        let dir = tempfile::tempdir().unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        let _full = UnixListener::bind(dir.path().join("s")).unwrap();
        let mut kept = Vec::new();
        let error = loop {
            match dial(&folder, "s") {
                Ok(connection) => kept.push(connection),
                Err(error) => break error,
            }
            assert!(kept.len() < 10_000);
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
