//! Connecting to a socket in a folder or to a TCP port, without ever waiting.
//!
//! Called for foreign vhost-user backends, for NBD servers, and to see whether a socket is stale. A path is reached
//! through `/proc/self/fd`, since the kernel takes none longer than 107 bytes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, connect, getsockopt, setsockopt,
    socket, sockopt,
};
use nix::sys::stat::fstatat;

/// Seconds of silence after which a peer is asked whether it lives, and between two such questions.
const KEEP_ALIVE: u32 = 10;

/// Connects a stream socket; `WouldBlock` if the listener's backlog is full.
pub fn dial(folder: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    dial_as(SockType::Stream, folder, name)
}

/// Begins to connect with a TCP port; whether somebody answers is seen later.
pub fn dial_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    // A peer that is gone without a word is found out in half a minute, not in two hours.
    setsockopt(&socket, sockopt::KeepAlive, &true)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &KEEP_ALIVE)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &KEEP_ALIVE)?;
    setsockopt(&socket, sockopt::TcpUserTimeout, &(KEEP_ALIVE * 3000))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Waits until a socket is connected. Only before the seal.
pub fn wait(socket: OwnedFd, patience: Duration) -> io::Result<OwnedFd> {
    let mut set = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    if poll(&mut set, patience)? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    match getsockopt(&socket, sockopt::SocketError)? {
        0 => Ok(socket),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
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
