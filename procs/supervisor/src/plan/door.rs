//! A listening socket that a helper accepts from: at a path, or on a TCP port.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::Address;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, listen, setsockopt, socket,
    sockopt,
};

use crate::listener::{BACKLOG, ListenError, Listener, Place, Traffic};
use crate::refusal::{io_reason, refuse, refuse_path};

/// The socket.
#[derive(Debug)]
enum Socket {
    Path(Listener),
    Tcp(OwnedFd),
}

/// See the module.
#[derive(Debug)]
pub struct Door {
    /// As the user may write it.
    pub address: String,
    /// Absolute paths of the socket, if it is one: its own, and the one until it is served.
    pub paths: Vec<PathBuf>,
    /// None in a dry run.
    socket: Option<Socket>,
}

impl Door {
    /// Binds at `address`, for `option`. `dry`: only looks.
    pub fn bind(option: &str, address: &Address, dry: bool) -> Result<Self, Refusal> {
        match address {
            Address::Path(path) => {
                let place = Place::find(path).map_err(|error| refused(option, path, error))?;
                let paths = vec![place.path.clone(), place.hidden_path()];
                let bind = || place.bind(Traffic::Stream).map(Socket::Path);
                let socket = (!dry).then(bind).transpose();
                let socket = socket.map_err(|error| refuse_path(option, path, &error))?;
                Ok(Self { address: path.display().to_string(), paths, socket })
            }
            Address::Tcp(address) => {
                let bind = || bind(*address).map(Socket::Tcp);
                let socket = (!dry).then(bind).transpose().map_err(|error| {
                    let (reason, _) = io_reason(&error);
                    let remedy = "end the program that listens there, or choose another port";
                    refuse(option, address, reason, remedy)
                })?;
                Ok(Self { address: address.to_string(), paths: Vec::new(), socket })
            }
        }
    }

    /// The socket, to be handed over.
    pub fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| match socket {
            Socket::Path(listener) => listener.as_fd(),
            Socket::Tcp(listener) => listener.as_fd(),
        })
    }

    /// Shows the socket: it is served.
    pub fn publish(&mut self) -> std::io::Result<()> {
        match &mut self.socket {
            Some(Socket::Path(listener)) => listener.publish(),
            Some(Socket::Tcp(_)) | None => Ok(()),
        }
    }
}

/// Step by step, since it is also done under the supervisor's filter.
fn bind(address: SocketAddr) -> std::io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(family, SockType::Stream, flags, None)?;
    // A port whose last connections linger is free.
    setsockopt(&listener, sockopt::ReuseAddr, &true)?;
    socket::bind(listener.as_raw_fd(), &SockaddrStorage::from(address))?;
    // What is accepted inherits both: messages are short, and a client whose host is gone must be noticed.
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    setsockopt(&listener, sockopt::KeepAlive, &true)?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener)
}

/// Why a socket cannot be had at `path`, with the remedy.
pub(super) fn refused(option: &str, path: &Path, error: ListenError) -> Refusal {
    let remedy = match error {
        ListenError::Host(error) => return refuse_path(option, path, &error),
        ListenError::Taken => "end that program, or choose another path",
        ListenError::NoSocket | ListenError::NoName => "choose another path",
    };
    refuse(option, path.display(), error, remedy)
}
