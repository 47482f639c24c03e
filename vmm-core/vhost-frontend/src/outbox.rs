//! Messages on their way out. They wait here if the socket is full; callers bound how many there can be.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use bulkhead_sys::seqpacket;

use crate::attached::Attached;
use crate::fault::Fault;

/// One message, of which `sent` bytes are gone. Its descriptors go with the first byte.
struct Waiting {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<Attached>,
}

/// What was not sent yet.
#[derive(Default)]
pub(crate) struct Outbox(VecDeque<Waiting>);

impl Outbox {
    pub fn push(&mut self, bytes: Vec<u8>, fds: Vec<Attached>) {
        self.0.push_back(Waiting { bytes, sent: 0, fds });
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends what there is room for.
    pub fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<(), Fault> {
        while let Some(first) = self.0.front_mut() {
            let fds: Vec<_> = first.fds.iter().map(|fd| fd.as_fd()).collect();
            let rest = first.bytes.get(first.sent..).unwrap_or(&[]);
            let sent = match seqpacket::send_some(socket, rest, &fds) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Fault::socket(error)),
            };
            first.fds.clear();
            first.sent += sent;
            if first.sent >= first.bytes.len() {
                self.0.pop_front();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::Arc;

    #[test]
    fn a_full_socket_keeps_the_rest_and_its_descriptors_in_order() {
        let (peer, socket) = seqpacket::stream_pair().unwrap();
        let bell = Arc::new(bulkhead_sys::eventfd::Doorbell::new().unwrap());
        let mut outbox = Outbox::default();
        let len = 64 << 10;
        for number in 0..16u8 {
            outbox.push(vec![number; len], vec![bell.clone() as Attached]);
        }
        outbox.flush(socket.as_fd()).unwrap();
        assert!(!outbox.is_empty(), "1 MiB does not fit a socket");
        let (mut bytes, mut fds) = (Vec::new(), 0);
        let mut buffer = vec![0; 32 << 10];
        while bytes.len() < 16 * len {
            let got = seqpacket::receive(peer.as_fd(), &mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..got.len]);
            fds += got.fds.len();
            outbox.flush(socket.as_fd()).unwrap();
        }
        assert!(bytes.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at / len));
        assert_eq!((fds, outbox.len()), (16, 0));
    }
}
