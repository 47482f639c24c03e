//! Bytes between a stream socket and memory, private or shared, without blocking.
//!
//! For servers whose data lies in a ring's arena: it goes between the socket and the arena without passing
//! through private memory. Descriptors that a peer of a UNIX socket sends along are closed by the kernel,
//! as no room is offered for them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;

use crate::mapping::{OutOfMapping, SharedMapping};

/// Most parts of one [`send`].
pub const MOST_PARTS: usize = 32;

/// Some bytes to be sent.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// Private ones.
    Bytes(&'a [u8]),
    /// A range of a mapping. A peer may change it meanwhile, and then sends what it changed.
    Mapped {
        /// Which mapping.
        mapping: &'a SharedMapping,
        /// First byte.
        offset: usize,
        /// Bytes.
        len: usize,
    },
}

impl Part<'_> {
    /// Bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Mapped { len, .. } => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What follows the first `count` bytes.
    pub fn after(self, count: usize) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.get(count..).unwrap_or_default()),
            Self::Mapped { mapping, offset, len } => {
                let count = count.min(len);
                Self::Mapped { mapping, offset: offset + count, len: len - count }
            }
        }
    }

    fn iov(&self) -> Result<libc::iovec, OutOfMapping> {
        Ok(match *self {
            Self::Bytes(bytes) => {
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
            }
            Self::Mapped { mapping, offset, len } => {
                mapping.check(offset, len)?;
                let start = mapping.as_ptr().wrapping_add(offset);
                libc::iovec { iov_base: start.cast(), iov_len: len }
            }
        })
    }
}

/// Sends as many bytes of `parts` in their order as there is room for, and says how many. Parts after the
/// first [`MOST_PARTS`] are left.
pub fn send(socket: impl AsFd, parts: &[Part<'_>]) -> io::Result<usize> {
    let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut iov = [none; MOST_PARTS];
    let count = parts.len().min(MOST_PARTS);
    for (place, part) in iov.iter_mut().zip(parts) {
        *place = part.iov().map_err(io::Error::other)?;
    }
    let message = message(&mut iov[..count]);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `message` names `count` entries of `iov`, each of which names bytes that live longer than
    // this call; the kernel only reads them.
    repeat(|| unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &message, flags) })
}

/// Lets about `bytes` wait in a UNIX socket for its peer, or as many as the host allows at most.
pub fn hold(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    Ok(setsockopt(&socket, SndBuf, &bytes)?)
}

/// Receives up to `into.len()` bytes; 0: the peer has closed.
pub fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    let mut iov = [libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() }];
    let mut message = message(&mut iov);
    // SAFETY: `message` names all of `into`, which is borrowed mutably meanwhile.
    repeat(|| unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &mut message, RECEIVE) })
}

/// Receives up to `len` bytes into a mapping at `offset`; 0: the peer has closed.
pub fn receive_mapped(
    socket: impl AsFd,
    mapping: &SharedMapping,
    offset: usize,
    len: usize,
) -> io::Result<usize> {
    mapping.check(offset, len).map_err(io::Error::other)?;
    let start = mapping.as_ptr().wrapping_add(offset);
    let mut iov = [libc::iovec { iov_base: start.cast(), iov_len: len }];
    let mut message = message(&mut iov);
    // SAFETY: the range was checked: the kernel writes only into the mapping, which lives meanwhile.
    repeat(|| unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &mut message, RECEIVE) })
}

const RECEIVE: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;

/// A message without address and without control data.
fn message(iov: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all its fields are numbers and pointers, of which zero is one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iov.as_mut_ptr();
    message.msg_iovlen = iov.len();
    message
}

fn repeat(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Rights;
    use crate::memfd::create_sealed;
    use crate::seqpacket::stream_pair;

    #[test]
    fn bytes_go_from_mapping_to_socket_to_mapping() {
        let (a, b) = stream_pair().unwrap();
        let arena = create_sealed("arena", 8192).unwrap();
        let mapping = SharedMapping::map(&arena, 8192, Rights::ReadWrite).unwrap();
        mapping.copy_out(100, b"stamp").unwrap();
        let parts = [Part::Bytes(b"head"), Part::Mapped { mapping: &mapping, offset: 100, len: 5 }];
        assert_eq!(send(&a, &parts).unwrap(), 9);
        let mut head = [0; 4];
        assert_eq!(receive(&b, &mut head).unwrap(), 4);
        assert_eq!(&head, b"head");
        assert_eq!(receive_mapped(&b, &mapping, 4096, 4096).unwrap(), 5);
        let mut back = [0; 5];
        mapping.copy_in(4096, &mut back).unwrap();
        assert_eq!(&back, b"stamp");
        let empty = receive(&b, &mut head).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(receive(&b, &mut head).unwrap(), 0);
    }

    #[test]
    fn what_is_left_of_a_part_is_what_was_not_sent() {
        let (a, b) = stream_pair().unwrap();
        let arena = create_sealed("arena", 4096).unwrap();
        let mapping = SharedMapping::map(&arena, 4096, Rights::ReadWrite).unwrap();
        mapping.copy_out(0, b"stamp").unwrap();
        let mapped = Part::Mapped { mapping: &mapping, offset: 0, len: 5 };
        let parts = [Part::Bytes(b"head").after(3), mapped.after(2)];
        assert_eq!((parts[0].len(), parts[1].len()), (1, 3));
        assert_eq!(send(&a, &parts).unwrap(), 4);
        let mut bytes = [0; 8];
        assert_eq!(receive(&b, &mut bytes).unwrap(), 4);
        assert_eq!(&bytes[..4], b"damp");
        assert!(Part::Bytes(b"x").after(2).is_empty() && mapped.after(9).is_empty());
    }

    #[test]
    fn a_socket_holds_more_when_it_is_told_to() {
        let waiting = |room: Option<usize>| {
            let (a, _b) = stream_pair().unwrap();
            room.map_or(Ok(()), |room| hold(&a, room)).unwrap();
            let bytes = [0; 4096];
            std::iter::from_fn(|| send(&a, &[Part::Bytes(&bytes)]).ok()).sum::<usize>()
        };
        assert!(waiting(Some(16 << 10)) < waiting(None));
    }

    #[test]
    fn what_lies_outside_a_mapping_is_neither_sent_nor_received() {
        let (a, b) = stream_pair().unwrap();
        let arena = create_sealed("arena", 4096).unwrap();
        let mapping = SharedMapping::map(&arena, 4096, Rights::ReadWrite).unwrap();
        assert!(send(&a, &[Part::Mapped { mapping: &mapping, offset: 4090, len: 7 }]).is_err());
        send(&a, &[Part::Bytes(b"x")]).unwrap();
        assert!(receive_mapped(&b, &mapping, usize::MAX, 2).is_err());
    }
}
