//! Whose process this is, and whose the peer of a socket is.

use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Whether this process runs as root of the initial namespace's kind (uid 0).
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The caller's effective uid.
pub fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The caller's effective gid.
pub fn gid() -> u32 {
    nix::unistd::getegid().as_raw()
}

/// Pid and uid of whoever connected the other end, as the kernel recorded them.
pub fn peer(socket: impl AsFd) -> std::io::Result<(i32, u32)> {
    let credentials = getsockopt(&socket, PeerCredentials)?;
    Ok((credentials.pid(), credentials.uid()))
}
