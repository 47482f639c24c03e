//! One frontend's socket: whole messages out of a stream, replies into it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_sys::seqpacket;

use super::WireFault;
use super::frame::{HEADER, Header, LONGEST_BODY};
use super::reply::Reply;

/// Most descriptors with the parts of one message; no request of vhost-user has more than eight.
const MOST_FDS: usize = 64;

/// A whole message, not yet understood.
#[derive(Debug)]
pub struct Message {
    /// Number of the request.
    pub request: u32,
    /// The frontend wants to be told whether it succeeded.
    pub need_reply: bool,
    /// Its body.
    pub body: Vec<u8>,
    /// Its descriptors.
    pub fds: Vec<OwnedFd>,
}

/// A connected vhost-user socket.
#[derive(Debug)]
pub struct FrontendSocket {
    socket: OwnedFd,
    /// What has come of the next message.
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl FrontendSocket {
    /// Takes a connected stream socket. It may be in blocking mode: no call here blocks.
    pub fn new(socket: OwnedFd) -> Self {
        let bytes = Vec::with_capacity(HEADER + LONGEST_BODY as usize);
        Self { socket, bytes, fds: Vec::new() }
    }

    /// The next message if all of it is there. Descriptors travel with the first bytes of a message,
    /// so no read goes beyond the end of one.
    pub fn receive(&mut self) -> Result<Option<Message>, WireFault> {
        while let Some(missing) = self.missing()? {
            if !self.read(missing)? {
                return Ok(None);
            }
        }
        let Some((header, body)) = self.bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let header = Header::decode(*header)?;
        let body = body.to_vec();
        self.bytes.clear();
        let fds = std::mem::take(&mut self.fds);
        Ok(Some(Message { request: header.request, need_reply: header.need_reply, body, fds }))
    }

    /// Bytes that the message still lacks, as far as is known; `None`: none.
    fn missing(&self) -> Result<Option<usize>, WireFault> {
        let whole = match self.bytes.first_chunk::<HEADER>() {
            None => HEADER,
            Some(header) => HEADER + Header::decode(*header)?.size as usize,
        };
        Ok(whole.checked_sub(self.bytes.len()).filter(|missing| *missing > 0))
    }

    /// Reads at most `missing` bytes; `false` if there are none now.
    fn read(&mut self, missing: usize) -> Result<bool, WireFault> {
        let had = self.bytes.len();
        self.bytes.resize(had + missing, 0);
        let received = seqpacket::receive(self.socket.as_fd(), &mut self.bytes[had..]);
        let came = received.as_ref().map_or(0, |datagram| datagram.len);
        self.bytes.truncate(had + came);
        let datagram = match received {
            Ok(datagram) => datagram,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(self.hung_up());
            }
            Err(error) => return Err(error.into()),
        };
        if datagram.truncated {
            let found = datagram.fds.len() + 1;
            return Err(WireFault::Descriptors { request: 0, found });
        }
        if datagram.len == 0 {
            return Err(self.hung_up());
        }
        self.fds.extend(datagram.fds);
        match self.fds.len() {
            0..=MOST_FDS => Ok(true),
            found => Err(WireFault::Descriptors { request: 0, found }),
        }
    }

    fn hung_up(&self) -> WireFault {
        if self.bytes.is_empty() { WireFault::HungUp } else { WireFault::Torn }
    }

    /// Answers `request`. A frontend that left no room for a few hundred bytes reads nothing, and is
    /// dropped.
    pub fn reply(&self, request: u32, reply: &Reply<'_>) -> Result<(), WireFault> {
        send(self.socket.as_fd(), &reply.encode(request), reply.fd())
    }
}

/// Sends all bytes or fails.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), WireFault> {
    match seqpacket::send(socket, bytes, fd.as_slice()) {
        Ok(()) => Ok(()),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::WriteZero => WireFault::Unread,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => WireFault::HungUp,
            _ => error.into(),
        }),
    }
}

impl AsFd for FrontendSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_sys::eventfd::Doorbell;
    use bulkhead_sys::seqpacket::stream_pair;

    use super::*;

    fn whole(request: u32, body: &[u8]) -> Vec<u8> {
        [&Header::of_request(request, body.len())[..], body].concat()
    }

    #[test]
    fn a_message_that_arrives_byte_by_byte_is_one_message() {
        let (far, near) = stream_pair().unwrap();
        let mut socket = FrontendSocket::new(near);
        let bytes = whole(8, &[1, 2, 3, 4]);
        for byte in &bytes {
            assert!(socket.receive().unwrap().is_none());
            send(far.as_fd(), &[*byte], None).unwrap();
        }
        let message = socket.receive().unwrap().unwrap();
        assert_eq!((message.request, &message.body[..]), (8, &[1, 2, 3, 4][..]));
        assert!(socket.receive().unwrap().is_none());
    }

    #[test]
    fn two_messages_in_one_piece_are_two_and_descriptors_stay_with_theirs() {
        let (far, near) = stream_pair().unwrap();
        let mut socket = FrontendSocket::new(near);
        let bell = Doorbell::new().unwrap();
        let first = [whole(3, &[]), whole(1, &[])].concat();
        send(far.as_fd(), &first, None).unwrap();
        send(far.as_fd(), &whole(12, &[0; 8]), Some(bell.as_fd())).unwrap();
        let numbers: Vec<_> = std::iter::from_fn(|| socket.receive().unwrap())
            .map(|message| (message.request, message.fds.len()))
            .collect();
        assert_eq!(numbers, [(3, 0), (1, 0), (12, 1)]);
    }

    #[test]
    fn hanging_up_between_messages_is_told_from_tearing_one() {
        let (far, near) = stream_pair().unwrap();
        let mut socket = FrontendSocket::new(near);
        send(far.as_fd(), &whole(3, &[]), None).unwrap();
        drop(far);
        assert!(socket.receive().unwrap().is_some());
        assert!(matches!(socket.receive(), Err(WireFault::HungUp)));
        let (far, near) = stream_pair().unwrap();
        let mut socket = FrontendSocket::new(near);
        send(far.as_fd(), &whole(8, &[1, 2])[..13], None).unwrap();
        drop(far);
        assert!(matches!(socket.receive(), Err(WireFault::Torn)));
    }

    #[test]
    fn a_flood_of_descriptors_is_refused_and_closed() {
        let (far, near) = stream_pair().unwrap();
        let mut socket = FrontendSocket::new(near);
        let bell = Doorbell::new().unwrap();
        for byte in whole(8, &[0; 4]) {
            let many = [bell.as_fd(); 60];
            seqpacket::send(far.as_fd(), &[byte], &many).unwrap();
        }
        assert!(matches!(socket.receive(), Err(WireFault::Descriptors { found: 120, .. })));
    }

    #[test]
    fn a_frontend_that_reads_nothing_is_dropped_and_does_not_block_us() {
        let (_far, near) = stream_pair().unwrap();
        let socket = FrontendSocket::new(near);
        let outcome = (0..1_000_000).try_for_each(|_| socket.reply(1, &Reply::Number(7)));
        assert!(matches!(outcome, Err(WireFault::Unread)));
    }
}
