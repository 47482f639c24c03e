//! The wire: headers, and every message that core sends.
//!
//! Source: vhost-user protocol, "Message Specification". Numbers are in the host's byte order. The
//! types are those of the `vhost` crate where it makes them public; its header is private, and its
//! in-flight description has padding of unknown content, so these two are written out here.

use std::sync::Arc;

use bulkhead_virtio_transport::QueueRings;
use vhost::vhost_user::message::{
    FrontendReq, VhostUserMemory, VhostUserMemoryRegion, VhostUserVringAddr,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vm_memory::ByteValued;

use crate::attached::Attached;
use crate::plan::{InflightTable, SharedRam, WrittenLog};

/// Bytes of a header: request u32, flags u32, size of the body u32.
pub(crate) const HEADER: usize = 12;

/// Longest body that any reply or request of a backend has: a configuration space of 256 bytes behind
/// its description.
pub(crate) const MAX_BODY: usize = CONFIG_HEADER + 256;

/// Bytes in front of a configuration space: offset u32, size u32, flags u32.
pub(crate) const CONFIG_HEADER: usize = 12;

/// Bits 0 and 1 of the flags: the version, always 1.
const VERSION: u32 = 1;
/// The message is a reply.
pub(crate) const REPLY: u32 = 1 << 2;
/// The sender wants an acknowledgement.
pub(crate) const NEED_REPLY: u32 = 1 << 3;

/// The header of a message, as a backend alleges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub request: u32,
    pub flags: u32,
    pub size: u32,
}

impl Header {
    /// Whether the flags say: version 1, a reply or not, and nothing unknown.
    pub fn has_flags(self, reply: bool) -> bool {
        let fixed = self.flags & !NEED_REPLY;
        fixed == if reply { VERSION | REPLY } else { VERSION }
    }

    pub fn needs_reply(self) -> bool {
        self.flags & NEED_REPLY != 0
    }

    pub fn decode(bytes: &[u8; HEADER]) -> Self {
        Self { request: word(bytes, 0), flags: word(bytes, 4), size: word(bytes, 8) }
    }

    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        for (place, word) in bytes.chunks_exact_mut(4).zip([self.request, self.flags, self.size]) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// The 32-bit word at `at`; 0 beyond the end.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u32::from_ne_bytes(*word))
}

/// The 64-bit word at `at`; 0 beyond the end.
pub(crate) fn long(bytes: &[u8], at: usize) -> u64 {
    let long = bytes.get(at..).and_then(|rest| rest.first_chunk());
    long.map_or(0, |long| u64::from_ne_bytes(*long))
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Not at all, or by an acknowledgement where those were agreed on.
    Ack,
    /// By a 64-bit number.
    Number,
    /// By a configuration space of this many bytes.
    Config(usize),
    /// By this queue's number and its base.
    Base(u16),
    /// By the description of an in-flight table, and a descriptor.
    Inflight,
    /// By a number or by the description of the log: libraries differ.
    Log,
}

/// A message to the backend.
#[derive(Clone)]
pub(crate) struct Message {
    pub request: FrontendReq,
    pub body: Vec<u8>,
    pub fds: Vec<Attached>,
    pub answer: Answer,
}

impl Message {
    fn new(request: FrontendReq, answer: Answer, body: &[u8]) -> Self {
        Self { request, body: body.to_vec(), fds: Vec::new(), answer }
    }

    fn with(mut self, fd: Attached) -> Self {
        self.fds.push(fd);
        self
    }

    pub fn set_owner() -> Self {
        Self::new(FrontendReq::SET_OWNER, Answer::Ack, &[])
    }

    pub fn get_number(request: FrontendReq) -> Self {
        Self::new(request, Answer::Number, &[])
    }

    pub fn set_number(request: FrontendReq, value: u64) -> Self {
        Self::new(request, Answer::Ack, &value.to_ne_bytes())
    }

    /// Reads `len` bytes of configuration space from its beginning.
    pub fn get_config(len: usize) -> Self {
        let mut body = vec![0; CONFIG_HEADER + len];
        body[4..8].copy_from_slice(&(len as u32).to_ne_bytes());
        Self::new(FrontendReq::GET_CONFIG, Answer::Config(len), &body)
    }

    pub fn set_backend_requests(fd: Attached) -> Self {
        Self::new(FrontendReq::SET_BACKEND_REQ_FD, Answer::Ack, &[]).with(fd)
    }

    /// One region for each of guest RAM's, all of one object.
    pub fn set_memory_table(ram: &SharedRam) -> Self {
        let regions: Vec<_> = ram.memory.regions().map(|region| region.ram()).collect();
        let count = VhostUserMemory::new(regions.len() as u32);
        let mut message = Self::new(FrontendReq::SET_MEM_TABLE, Answer::Ack, count.as_slice());
        for ram_region in regions {
            let addr = ram_region.guest_addr;
            let region =
                VhostUserMemoryRegion::new(addr, ram_region.len, addr, ram_region.file_offset);
            message.body.extend_from_slice(region.as_slice());
            message.fds.push(Arc::clone(&ram.fd) as Attached);
        }
        message
    }

    /// The log of written pages, from the object's beginning.
    pub fn set_log(log: &WrittenLog) -> Self {
        let body = [log.len.to_ne_bytes(), [0; 8]].concat();
        Self::new(FrontendReq::SET_LOG_BASE, Answer::Log, &body)
            .with(Arc::clone(&log.fd) as Attached)
    }

    pub fn get_inflight(queues: u16, queue_size: u16) -> Self {
        let body = inflight_body(0, queues, queue_size);
        Self::new(FrontendReq::GET_INFLIGHT_FD, Answer::Inflight, &body)
    }

    pub fn set_inflight(table: &InflightTable, queues: u16, queue_size: u16) -> Self {
        let body = inflight_body(table.len, queues, queue_size);
        Self::new(FrontendReq::SET_INFLIGHT_FD, Answer::Ack, &body)
            .with(Arc::clone(&table.fd) as Attached)
    }

    /// SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ENABLE: a queue and a number.
    pub fn set_queue(request: FrontendReq, index: u16, value: u32) -> Self {
        let body = VhostUserVringState::new(index.into(), value);
        Self::new(request, Answer::Ack, body.as_slice())
    }

    /// `log`: writes to the used ring are to be marked in the log, too.
    pub fn set_rings(index: u16, rings: &QueueRings, log: bool) -> Self {
        let QueueRings { descriptors, available, used, .. } = *rings;
        let (flags, place) = match log {
            true => (VhostUserVringAddrFlags::VHOST_VRING_F_LOG, used),
            false => (VhostUserVringAddrFlags::empty(), 0),
        };
        let body =
            VhostUserVringAddr::new(index.into(), flags, descriptors, used, available, place);
        Self::new(FrontendReq::SET_VRING_ADDR, Answer::Ack, body.as_slice())
    }

    /// SET_VRING_KICK, SET_VRING_CALL: a queue's doorbell.
    pub fn set_bell(request: FrontendReq, index: u16, bell: Attached) -> Self {
        Self::set_number(request, index.into()).with(bell)
    }

    pub fn get_base(index: u16) -> Self {
        let body = VhostUserVringState::new(index.into(), 0);
        Self::new(FrontendReq::GET_VRING_BASE, Answer::Base(index), body.as_slice())
    }
}

/// Bytes of an in-flight description as C lays it out: mmap_size u64, mmap_offset u64, num_queues u16,
/// queue_size u16, 4 bytes of padding.
pub(crate) const INFLIGHT_BODY: usize = 24;

fn inflight_body(len: u64, queues: u16, queue_size: u16) -> [u8; INFLIGHT_BODY] {
    let mut body = [0; INFLIGHT_BODY];
    body[..8].copy_from_slice(&len.to_ne_bytes());
    body[16..18].copy_from_slice(&queues.to_ne_bytes());
    body[18..20].copy_from_slice(&queue_size.to_ne_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let header = Header { request: 24, flags: VERSION | REPLY, size: 72 };
        assert_eq!(Header::decode(&header.encode()), header);
    }

    #[test]
    fn replies_may_keep_the_wish_for_a_reply_but_no_other_flag() {
        let header = |flags| Header { request: 1, flags, size: 8 };
        assert!(header(VERSION | REPLY).has_flags(true));
        assert!(header(VERSION | REPLY | NEED_REPLY).has_flags(true));
        assert!(!header(VERSION).has_flags(true));
        assert!(!header(VERSION | REPLY).has_flags(false));
        assert!(!header(VERSION | REPLY | 1 << 4).has_flags(true));
        assert!(!header(2 | REPLY).has_flags(true));
    }

    #[test]
    fn bodies_have_the_lengths_of_the_standard() {
        let rings = QueueRings { size: 8, descriptors: 0x1000, available: 0x2000, used: 0x3000 };
        assert_eq!(Message::set_rings(1, &rings, true).body.len(), 40);
        assert_eq!(Message::get_base(1).body.len(), 8);
        assert_eq!(Message::get_config(60).body.len(), 72);
        assert_eq!(Message::get_inflight(1, 256).body.len(), INFLIGHT_BODY);
    }

    #[test]
    fn words_beyond_the_end_are_zero() {
        assert_eq!((word(&[1; 3], 0), long(&[1; 8], 1), word(&[], 100)), (0, 0, 0));
    }
}
