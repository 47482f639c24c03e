//! What a frontend is answered.

use std::os::fd::BorrowedFd;

use vhost::vhost_user::message::{VhostUserConfig, VhostUserConfigFlags};
use vm_memory::ByteValued;

use super::frame::Header;
use super::request::{LogPlace, TableShape};

/// An answer to a request.
#[derive(Debug, Clone, Copy)]
pub enum Reply<'a> {
    /// A number: features, a count, or an acknowledgement (0: done, 1: refused).
    Number(u64),
    /// State of a queue.
    Vring {
        /// Which.
        index: u32,
        /// Its position.
        base: u32,
    },
    /// A part of the configuration space; no bytes: refused.
    Config {
        /// Where it begins.
        offset: u32,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The in-flight table.
    Inflight {
        /// Its shape.
        shape: TableShape,
        /// The memory object.
        fd: BorrowedFd<'a>,
    },
    /// The log is in use. The text wants any reply; libraries differ in its body, and this one suits all.
    Log(LogPlace),
}

impl<'a> Reply<'a> {
    /// An acknowledgement.
    pub const DONE: Self = Self::Number(0);
    /// A refusal.
    pub const REFUSED: Self = Self::Number(1);

    pub(super) fn fd(&self) -> Option<BorrowedFd<'a>> {
        match self {
            Self::Inflight { fd, .. } => Some(*fd),
            _ => None,
        }
    }

    pub(super) fn encode(&self, request: u32) -> Vec<u8> {
        let body = match self {
            Self::Number(number) => number.to_ne_bytes().to_vec(),
            Self::Vring { index, base } => [index.to_ne_bytes(), base.to_ne_bytes()].concat(),
            Self::Config { offset, bytes } => {
                let flags = VhostUserConfigFlags::empty();
                let head = VhostUserConfig::new(*offset, bytes.len() as u32, flags);
                [head.as_slice(), bytes].concat()
            }
            Self::Inflight { shape, .. } => inflight(*shape),
            Self::Log(place) => [place.len.to_ne_bytes(), place.offset.to_ne_bytes()].concat(),
        };
        let mut bytes = Header::of_reply(request, body.len()).to_vec();
        bytes.extend(body);
        bytes
    }
}

/// The structure as QEMU has it, its four bytes of padding included.
fn inflight(shape: TableShape) -> Vec<u8> {
    let mut body = [shape.len.to_ne_bytes(), shape.offset.to_ne_bytes()].concat();
    body.extend(shape.queues.to_ne_bytes());
    body.extend(shape.queue_size.to_ne_bytes());
    body.extend([0; 4]);
    body
}
