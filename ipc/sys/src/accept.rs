//! Connections to a listening socket whose family the caller does not know.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Takes the next connection, close-on-exec. `None`: none waits, or it has gone already.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    Ok(accept_any(listener)?.map(|(connection, _)| connection))
}

/// The same, and whether it is one of a UNIX socket.
pub fn accept_any(listener: impl AsFd) -> io::Result<Option<(OwnedFd, bool)>> {
    let mut family: libc::sa_family_t = 0;
    let mut len = size_of_val(&family) as libc::socklen_t;
    let address = std::ptr::from_mut(&mut family).cast();
    let listener = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `len` bytes, which is what `family` has: an address begins with it.
    let connection = unsafe { libc::accept4(listener, address, &mut len, libc::SOCK_CLOEXEC) };
    match Errno::result(connection) {
        Ok(connection) => {
            // SAFETY: the kernel has just made this descriptor for this call; nobody else knows it.
            let connection = unsafe { OwnedFd::from_raw_fd(connection) };
            Ok(Some((connection, i32::from(family) == libc::AF_UNIX)))
        }
        Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    #[test]
    fn connections_of_unix_sockets_are_known() {
        let name = format!("bulkhead-accept-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let _client = UnixStream::connect_addr(&address).unwrap();
        assert!(accept_any(&listener).unwrap().is_some_and(|(_, local)| local));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(accept_any(&listener).unwrap().is_some_and(|(_, local)| !local));
    }

    #[test]
    fn a_connection_is_taken_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(accept(&listener).unwrap().is_some());
        assert!(accept(&listener).unwrap().is_none());
    }
}
