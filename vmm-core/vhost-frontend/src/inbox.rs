//! Bytes from a backend become whole messages.
//!
//! Used for replies and for a backend's own requests. Law: a fixed buffer of one longest message; a
//! header that announces more is refused before a byte of its body is read.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use bulkhead_sys::seqpacket;

use crate::fault::Fault;
use crate::message::{HEADER, Header, MAX_BODY};

const CAPACITY: usize = HEADER + MAX_BODY;

/// What arrived and was not understood yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: [u8; CAPACITY],
    filled: usize,
    /// The descriptor that goes with a reply that is due, if it came.
    fd: Option<OwnedFd>,
}

/// A message, its body still unchecked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub header: Header,
    pub body: Vec<u8>,
}

impl Inbox {
    pub fn new() -> Self {
        Self { bytes: [0; CAPACITY], filled: 0, fd: None }
    }

    /// Reads what there is room for. `Ok(false)`: nothing there now. At most `fds` descriptors (0 or 1)
    /// are due in all; others are closed and blamed.
    pub fn read(&mut self, socket: BorrowedFd<'_>, fds: usize) -> Result<bool, Fault> {
        let Some(room) = self.bytes.get_mut(self.filled..).filter(|room| !room.is_empty()) else {
            return Ok(false);
        };
        let got = match seqpacket::receive(socket, room) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(Fault::socket(error)),
        };
        let came = got.fds.len() + usize::from(self.fd.is_some());
        if came > fds || got.truncated {
            return Err(Fault::SurplusDescriptors(came));
        }
        self.fd = self.fd.take().or(got.fds.into_iter().next());
        if got.len == 0 {
            return Err(Fault::HungUp);
        }
        self.filled += got.len;
        Ok(true)
    }

    /// The next whole message. `reply`: the direction of all messages on this channel.
    pub fn take(&mut self, reply: bool) -> Result<Option<Parcel>, Fault> {
        let Some(head) = self.bytes[..self.filled].first_chunk::<HEADER>() else { return Ok(None) };
        let header = Header::decode(head);
        let Header { request, flags, size } = header;
        if size as usize > MAX_BODY || !header.has_flags(reply) {
            return Err(Fault::Header { request, flags, size });
        }
        let end = HEADER + size as usize;
        let Some(body) = self.bytes[..self.filled].get(HEADER..end) else { return Ok(None) };
        let body = body.to_vec();
        self.bytes.copy_within(end..self.filled, 0);
        self.filled -= end;
        Ok(Some(Parcel { header, body }))
    }

    /// The descriptor that came, if one did.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fd.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::fd::AsFd;

    fn message(request: u32, body: &[u8]) -> Vec<u8> {
        let header = Header { request, flags: 0b101, size: body.len() as u32 };
        [&header.encode()[..], body].concat()
    }

    #[test]
    fn a_message_that_comes_byte_by_byte_is_one_message() {
        let (peer, socket) = seqpacket::stream_pair().unwrap();
        let mut inbox = Inbox::new();
        let bytes = message(1, &7u64.to_ne_bytes());
        for (at, byte) in bytes.iter().enumerate() {
            assert_eq!(inbox.take(true).unwrap(), None, "{at}");
            seqpacket::send(peer.as_fd(), &[*byte], &[]).unwrap();
            assert!(inbox.read(socket.as_fd(), 0).unwrap());
        }
        assert_eq!(inbox.take(true).unwrap().unwrap().body, 7u64.to_ne_bytes());
        assert_eq!(inbox.take(true).unwrap(), None);
        assert!(!inbox.read(socket.as_fd(), 0).unwrap());
    }

    #[test]
    fn several_messages_in_one_read_come_apart() {
        let (peer, socket) = seqpacket::stream_pair().unwrap();
        let mut inbox = Inbox::new();
        let bytes = [message(1, &[1; 8]), message(15, &[2; 8]), message(17, &[3; 8])].concat();
        seqpacket::send(peer.as_fd(), &bytes, &[]).unwrap();
        inbox.read(socket.as_fd(), 0).unwrap();
        for (request, byte) in [(1, 1), (15, 2), (17, 3)] {
            let parcel = inbox.take(true).unwrap().unwrap();
            assert_eq!((parcel.header.request, parcel.body), (request, vec![byte; 8]));
        }
    }

    #[test]
    fn a_longer_message_than_any_is_refused_by_its_header_alone() {
        let (peer, socket) = seqpacket::stream_pair().unwrap();
        let mut inbox = Inbox::new();
        let header = Header { request: 24, flags: 0b101, size: MAX_BODY as u32 + 1 };
        seqpacket::send(peer.as_fd(), &header.encode(), &[]).unwrap();
        inbox.read(socket.as_fd(), 0).unwrap();
        assert!(matches!(inbox.take(true), Err(Fault::Header { request: 24, .. })));
    }

    #[test]
    fn descriptors_that_are_not_due_are_blamed() {
        let (peer, socket) = seqpacket::stream_pair().unwrap();
        let bytes = message(1, &[0; 8]);
        seqpacket::send(peer.as_fd(), &bytes, &[peer.as_fd(), peer.as_fd()]).unwrap();
        let fault = Inbox::new().read(socket.as_fd(), 1).unwrap_err();
        assert!(matches!(fault, Fault::SurplusDescriptors(2)));
    }

    #[test]
    fn a_closed_peer_has_hung_up() {
        let (peer, socket) = seqpacket::stream_pair().unwrap();
        drop(peer);
        assert!(matches!(Inbox::new().read(socket.as_fd(), 0), Err(Fault::HungUp)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_messages_or_faults(bytes in proptest::collection::vec(any::<u8>(), 1..600)) {
            let (peer, socket) = seqpacket::stream_pair().unwrap();
            seqpacket::send(peer.as_fd(), &bytes, &[]).unwrap();
            let mut inbox = Inbox::new();
            while let Ok(true) = inbox.read(socket.as_fd(), 0) {
                while let Ok(Some(parcel)) = inbox.take(true) {
                    prop_assert_eq!(parcel.body.len(), parcel.header.size as usize);
                }
            }
        }
    }
}
