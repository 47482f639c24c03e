//! UNIX sockets that carry descriptors: `SOCK_SEQPACKET` pairs, and streams for vhost-user.
//!
//! On a packet socket one datagram is one message; on a stream [`send_some`] and [`receive`] move
//! whatever part there is room for. The number of descriptors is bounded per call; descriptors beyond
//! the bound are closed here (a peer must not fill our table) and reported as a surplus, so that the
//! caller can blame the peer.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

use crate::clock::Deadline;

/// The most descriptors a message may carry (Linux itself stops at 253).
pub const MAX_FDS: usize = 128;

/// What arrived.
#[derive(Debug)]
pub struct Datagram {
    /// Bytes written to the caller's buffer. Zero: the peer has closed.
    pub len: usize,
    /// Descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The datagram or its descriptors did not fit; the rest was dropped by the kernel.
    pub truncated: bool,
}

/// A connected pair, close-on-exec, blocking (calls below never block without a deadline).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// A connected pair of stream sockets (console bytes, vhost-user), close-on-exec.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?)
}

/// Sends one datagram without blocking; `WouldBlock` if the peer's queue is full.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    match send_some(socket, bytes, fds)? {
        sent if sent == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Sends as many bytes as a stream socket has room for, without blocking, and says how many; at least
/// one, or `WouldBlock`. The descriptors go with the first byte.
pub fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        return match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)
        {
            Ok(sent) => Ok(sent),
            Err(Errno::EINTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Sends one datagram, waiting for room until `deadline`.
pub fn send_by(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> io::Result<()> {
    loop {
        match send(socket, bytes, fds) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(socket, PollFlags::POLLOUT, deadline)?;
            }
            other => return other,
        }
    }
}

/// Receives one datagram without blocking.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    loop {
        let mut iov = [IoSliceMut::new(buffer)];
        let received = match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags)
        {
            Ok(received) => received,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let lost = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
        let truncated = received.flags.intersects(lost);
        let len = received.bytes;
        let fds = match received.cmsgs() {
            Ok(messages) => messages.flat_map(take_rights).collect(),
            Err(_) => Vec::new(),
        };
        return Ok(Datagram { len, fds, truncated });
    }
}

/// Copies what a stream socket holds, as far as there is room, and leaves it there; 0: the peer has
/// closed. Descriptors are not copied.
pub fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    loop {
        let mut iov = [IoSliceMut::new(buffer)];
        return match recvmsg::<()>(socket.as_raw_fd(), &mut iov, None, flags) {
            Ok(received) => Ok(received.bytes),
            Err(Errno::EINTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Receives one datagram, waiting for it until `deadline`.
pub fn receive_by(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    deadline: Deadline,
) -> io::Result<Datagram> {
    loop {
        match receive(socket, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(socket, PollFlags::POLLIN, deadline)?;
            }
            other => return other,
        }
    }
}

fn take_rights(message: ControlMessageOwned) -> Vec<OwnedFd> {
    match message {
        ControlMessageOwned::ScmRights(raw) => raw.into_iter().map(own).collect(),
        _ => Vec::new(),
    }
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just installed this descriptor for this message; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn wait(socket: BorrowedFd<'_>, flags: PollFlags, deadline: Deadline) -> io::Result<()> {
    let mut set = [PollFd::new(socket.as_fd(), flags)];
    let timeout = PollTimeout::try_from(deadline.poll_timeout()).unwrap_or(PollTimeout::MAX);
    match poll(&mut set, timeout) {
        Ok(0) if deadline.has_passed() => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (a, b) = pair().unwrap();
        let bell = crate::eventfd::Doorbell::new().unwrap();
        send(a.as_fd(), b"hello", &[bell.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let got = receive(b.as_fd(), &mut buffer).unwrap();
        assert_eq!((got.len, got.fds.len(), got.truncated), (5, 1, false));
        assert_eq!(&buffer[..5], b"hello");
    }

    #[test]
    fn a_long_datagram_is_reported_truncated() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &[0; 32], &[]).unwrap();
        assert!(receive(b.as_fd(), &mut [0; 16]).unwrap().truncated);
    }

    #[test]
    fn surplus_descriptors_are_closed_and_reported() {
        let (a, b) = pair().unwrap();
        let bell = crate::eventfd::Doorbell::new().unwrap();
        let many = vec![bell.as_fd(); MAX_FDS + 1];
        send(a.as_fd(), b"x", &many).unwrap();
        let got = receive(b.as_fd(), &mut [0; 4]).unwrap();
        assert!(got.truncated && got.fds.len() <= MAX_FDS);
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let (_a, b) = pair().unwrap();
        let deadline = Deadline::after(Duration::from_millis(5));
        let error = receive_by(b.as_fd(), &mut [0; 4], deadline).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_is_peeked_at_stays() {
        let (a, b) = stream_pair().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(peek(b.as_fd(), &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        send_some(a.as_fd(), b"hello", &[]).unwrap();
        send_some(a.as_fd(), b"you", &[]).unwrap();
        assert_eq!(peek(b.as_fd(), &mut buffer).unwrap(), 8);
        assert_eq!(receive(b.as_fd(), &mut buffer[..2]).unwrap().len, 2);
        assert_eq!(peek(b.as_fd(), &mut buffer).unwrap(), 6);
        assert_eq!(&buffer[..6], b"lloyou");
    }

    #[test]
    fn a_closed_peer_is_an_empty_datagram() {
        let (a, b) = pair().unwrap();
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut [0; 4]).unwrap().len, 0);
    }
}
