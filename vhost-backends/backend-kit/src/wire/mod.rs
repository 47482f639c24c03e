//! vhost-user on the socket: bytes to requests, replies to bytes.
//!
//! Called by [`session`](crate::session). Message bodies and request codes are those of the `vhost`
//! crate; reading and answering are done here.
//!
//! Why not `vhost::vhost_user::BackendReqHandler`: it reads with blocking calls, so a frontend that
//! sends half a message would stop the thread that answers heartbeats (and with a nonblocking socket it
//! would spin); it takes a body that arrives in two pieces for an error; and it replies when the
//! handler returns, while `GET_VRING_BASE` has to be answered after a drain during which the queue is
//! served on.
//!
//! Law: a message is complete before it is looked at; its descriptors are counted against its kind and
//! the surplus is closed; nothing here blocks.

mod frame;
mod reply;
mod request;
mod socket;

pub use reply::Reply;
pub use request::{LogPlace, Region, Request, TableShape, VringAddresses};
pub use socket::{FrontendSocket, Message};

use std::io;
use std::os::fd::BorrowedFd;

use vhost::vhost_user::message::BackendReq;

/// What a frontend can do wrong on the socket. The peer is to blame for all but `Host`; the
/// connection is dropped.
#[derive(Debug, thiserror::Error)]
pub enum WireFault {
    /// It hung up. No fault if it happens between messages.
    #[error("the frontend hung up")]
    HungUp,
    /// It hung up in the middle of a message.
    #[error("the frontend hung up in the middle of a message")]
    Torn,
    /// The flags name another version of the protocol, or say that this is a reply.
    #[error("message with flags {0:#x}")]
    Flags(u32),
    /// No request has that number, or none that was negotiated.
    #[error("request {0} is not understood here")]
    Unknown(u32),
    /// The body is longer than any.
    #[error("a message of {0} bytes")]
    TooLong(u32),
    /// The body has not the request's length.
    #[error("request {request} with {found} bytes")]
    Length {
        /// The request's number.
        request: u32,
        /// Bytes that came.
        found: usize,
    },
    /// The message has not its number of descriptors.
    #[error("request {request} with {found} descriptors")]
    Descriptors {
        /// The request's number.
        request: u32,
        /// Descriptors that came.
        found: usize,
    },
    /// A field has an impossible value.
    #[error("request {request} with an impossible {field}")]
    Value {
        /// The request's number.
        request: u32,
        /// Which field.
        field: &'static str,
    },
    /// The socket does not take our replies: the frontend does not read them.
    #[error("the frontend does not read its replies")]
    Unread,
    /// A request was refused and no acknowledgement was asked for, so that the frontend would go on in
    /// error.
    #[error("request {request}: {reason}")]
    Refused {
        /// The request's number.
        request: u32,
        /// Why.
        reason: String,
    },
    /// The kernel refused.
    #[error("vhost-user socket: {0}")]
    Host(#[from] io::Error),
}

/// Tells the frontend on its socket for our requests that the configuration space changed. No reply is
/// asked for: there is nothing that it could say.
pub(crate) fn send_config_change(socket: BorrowedFd<'_>) -> Result<(), WireFault> {
    let request = BackendReq::CONFIG_CHANGE_MSG.into();
    socket::send(socket, &frame::Header::of_request(request, 0), None)
}
