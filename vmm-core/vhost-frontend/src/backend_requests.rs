//! The channel for requests that a backend makes of its own accord.
//!
//! One request is agreed on: CONFIG_CHANGE_MSG. All others (mapping memory, doorbells or shared objects
//! into the guest) need protocol features that core never agrees on, and are faults.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use vhost::vhost_user::message::BackendReq;

use crate::fault::Fault;
use crate::inbox::{Inbox, Parcel};
use crate::message::{Header, REPLY};
use crate::outbox::Outbox;

/// Reads of one call, each of less than 300 bytes; more waits for the next call.
const READS: usize = 4;

/// Answers that may wait for a backend which does not read them.
const UNREAD: usize = 64;

/// The channel.
pub(crate) struct BackendRequests {
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
}

impl BackendRequests {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, inbox: Inbox::new(), outbox: Outbox::default() }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what has come. Whether the configuration space has changed, once or more.
    pub fn take(&mut self) -> Result<bool, Fault> {
        let mut changed = false;
        for _ in 0..READS {
            let more = self.inbox.read(self.socket.as_fd(), 0)?;
            while let Some(parcel) = self.inbox.take(false)? {
                self.handle(&parcel)?;
                changed = true;
            }
            if !more {
                break;
            }
        }
        self.outbox.flush(self.socket.as_fd())?;
        Ok(changed)
    }

    fn handle(&mut self, parcel: &Parcel) -> Result<(), Fault> {
        let Header { request, size, .. } = parcel.header;
        if BackendReq::try_from(request) != Ok(BackendReq::CONFIG_CHANGE_MSG) || size != 0 {
            return Err(Fault::Request { request, size });
        }
        if parcel.header.needs_reply() {
            if self.outbox.len() >= UNREAD {
                return Err(Fault::Flood);
            }
            let header = Header { request, flags: 1 | REPLY, size: 8 };
            self.outbox.push([&header.encode()[..], &[0; 8]].concat(), Vec::new());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{HEADER, NEED_REPLY};
    use bulkhead_sys::seqpacket::{receive, send, stream_pair};

    fn request(number: u32, flags: u32, size: u32) -> [u8; HEADER] {
        Header { request: number, flags, size }.encode()
    }

    #[test]
    fn a_change_is_told_and_answered_if_the_backend_wants() {
        let (peer, socket) = stream_pair().unwrap();
        let mut requests = BackendRequests::new(socket);
        assert!(!requests.take().unwrap());
        send(peer.as_fd(), &request(2, 1, 0), &[]).unwrap();
        send(peer.as_fd(), &request(2, 1 | NEED_REPLY, 0), &[]).unwrap();
        assert!(requests.take().unwrap());
        let mut answer = [0; 64];
        assert_eq!(receive(peer.as_fd(), &mut answer).unwrap().len, HEADER + 8);
        assert_eq!(answer[..HEADER], request(2, 1 | REPLY, 8));
    }

    #[test]
    fn what_was_not_agreed_on_is_a_fault() {
        for bytes in [request(3, 1, 0), request(9, 1, 0), request(2, 1, 4), request(77, 1, 0)] {
            let (peer, socket) = stream_pair().unwrap();
            send(peer.as_fd(), &bytes, &[]).unwrap();
            send(peer.as_fd(), &[0; 4], &[]).unwrap();
            let fault = BackendRequests::new(socket).take().unwrap_err();
            assert!(matches!(fault, Fault::Request { .. }), "{fault}");
        }
    }

    #[test]
    fn a_backend_that_does_not_read_its_answers_is_cut_off() {
        let (peer, socket) = stream_pair().unwrap();
        let mut requests = BackendRequests::new(socket);
        let fault = loop {
            while send(peer.as_fd(), &request(2, 1 | NEED_REPLY, 0), &[]).is_ok() {}
            if let Err(fault) = requests.take() {
                break fault;
            }
        };
        assert!(matches!(fault, Fault::Flood));
    }
}
