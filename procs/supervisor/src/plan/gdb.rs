//! Where a debugger may connect: the listening socket.
//!
//! A TCP port is one of this host's loopback unless the user gives an address: who connects owns the guest.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{GdbAddress, GdbSpec};
use nix::sys::socket::{setsockopt, sockopt};

use crate::listener::{ListenError, Listener, Place, Traffic};
use crate::refusal::{io_reason, refuse, refuse_path};

const OPTION: &str = "--gdb";

/// The socket.
#[derive(Debug)]
enum Socket {
    Path(Listener),
    Tcp(OwnedFd),
}

/// A debugger's way in.
#[derive(Debug)]
pub struct Gdb {
    /// As the user may write it.
    pub address: String,
    /// The guest waits for a debugger.
    pub wait: bool,
    /// Absolute paths of the socket, if it is one: its own, and the one until it is served.
    pub paths: Vec<PathBuf>,
    /// None in a dry run.
    socket: Option<Socket>,
}

impl Gdb {
    /// Binds what `spec` says.
    pub fn plan(spec: &GdbSpec, dry: bool) -> Result<Self, Refusal> {
        let wait = spec.wait;
        match &spec.listen {
            GdbAddress::Path(path) => {
                let place = Place::find(path).map_err(|error| refused(path, error))?;
                let paths = vec![place.path.clone(), place.hidden_path()];
                let bind = || place.bind(Traffic::Stream).map(Socket::Path);
                let socket = (!dry).then(bind).transpose();
                let socket = socket.map_err(|error| refuse_path(OPTION, path, &error))?;
                Ok(Self { address: path.display().to_string(), wait, paths, socket })
            }
            GdbAddress::Tcp(address) => {
                let bind = || bind(*address).map(Socket::Tcp);
                let socket = (!dry).then(bind).transpose().map_err(|error| {
                    let (reason, _) = io_reason(&error);
                    let remedy = "end the program that listens there, or choose another port";
                    refuse(OPTION, address, reason, remedy)
                })?;
                Ok(Self { address: address.to_string(), wait, paths: Vec::new(), socket })
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

fn bind(address: SocketAddr) -> std::io::Result<OwnedFd> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // What is accepted inherits it: packets are short, and each is waited for.
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    Ok(listener.into())
}

fn refused(path: &Path, error: ListenError) -> Refusal {
    let remedy = match error {
        ListenError::Host(error) => return refuse_path(OPTION, path, &error),
        ListenError::Taken => "end that program, or choose another path",
        ListenError::NoSocket | ListenError::NoName => "choose another path",
    };
    refuse(OPTION, path.display(), error, remedy)
}
