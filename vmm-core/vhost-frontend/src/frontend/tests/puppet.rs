//! A scripted backend on the other end of a socket pair.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::create_sealed;
use bulkhead_sys::readiness::wait_readable;
use bulkhead_sys::seqpacket::{receive, send, stream_pair};
use bulkhead_virtio_transport::{Activation, DeviceType, QueueBells, QueueRings};
use vhost::vhost_user::message::FrontendReq;

use crate::event::{Event, Offer};
use crate::frontend::{Connection, Frontend};
use crate::message::{HEADER, Header, NEED_REPLY, long, word};
use crate::plan::{InflightTable, Patience, Plan, SharedRam, WrittenLog};

const RAM: u64 = 1 << 20;
/// Bytes from one queue's rings to the next one's, and where the used ring lies in them.
pub(super) const QUEUE: u64 = 0x10000;
pub(super) const USED: u64 = 0x3000;

fn plan() -> Plan {
    Plan { queues: 2, queue_size: 256, device: DeviceType::BLK, patience: Patience::default() }
}

fn ram() -> SharedRam {
    let layout = RamLayout::new(RAM).unwrap();
    let fd = create_sealed("ram", layout.total()).unwrap();
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&fd).unwrap();
    SharedRam { fd: Arc::new(fd), memory, written: None }
}

fn bells() -> Vec<QueueBells> {
    let bell = || Arc::new(Doorbell::new().unwrap());
    (0..2).map(|_| QueueBells { kick: bell(), call: bell() }).collect()
}

/// A frontend for somebody else's backend.
pub(super) fn frontend() -> Frontend {
    Frontend::new(plan(), ram(), bells(), None)
}

/// A frontend for a backend of our own that is to log what it writes.
pub(super) fn logging_frontend() -> Frontend {
    let fd = Arc::new(create_sealed("inflight", 65536).unwrap());
    let written = Arc::new(create_sealed("written", 4096).unwrap());
    let ram = SharedRam { written: Some(WrittenLog { fd: written, len: 4096 }), ..ram() };
    Frontend::new(plan(), ram, bells(), Some(InflightTable { fd, len: 65536 }))
}

/// A frontend for a backend of our own.
pub(super) fn own_frontend() -> Frontend {
    let fd = Arc::new(create_sealed("inflight", 65536).unwrap());
    Frontend::new(plan(), ram(), bells(), Some(InflightTable { fd, len: 65536 }))
}

pub(super) fn activation() -> Activation {
    let rings = |at: u64| QueueRings {
        size: 128,
        descriptors: at + 0x1000,
        available: at + 0x2000,
        used: at + USED,
    };
    Activation { features: 1 << 32 | 1 << 9, queues: vec![Some(rings(0)), Some(rings(QUEUE))] }
}

/// Serves the handshake and returns what the frontend makes of it.
pub(super) fn up(frontend: &mut Frontend, puppet: &mut Puppet, now: Instant) -> Offer {
    for _ in 0..3 {
        assert!(frontend.advance(now).is_none());
        puppet.serve_until_quiet();
    }
    match frontend.advance(now) {
        Some(Event::Up(offer)) => offer,
        other => panic!("{other:?}"),
    }
}

/// A message from the frontend.
pub(super) struct Heard {
    pub request: FrontendReq,
    pub wants_ack: bool,
    pub body: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// The backend. What it says can be changed before it says it.
pub(super) struct Puppet {
    pub socket: OwnedFd,
    pub requests: Option<OwnedFd>,
    pub features: u64,
    pub protocol: u64,
    pub queues: u64,
    /// Features it was told.
    pub accepted: u64,
    /// Bytes of its reply to SET_LOG_BASE.
    pub log_reply: usize,
    pub config: [u8; 60],
    /// Bases it was told.
    pub bases: Vec<u32>,
    /// State of a generator by which what it says is damaged now and then; 0: never.
    pub noise: u64,
    /// The descriptor it sends where one belongs or does not belong.
    pub gift: Arc<OwnedFd>,
}

/// A descriptor to be sent, and a socket that hangs up when the last copy of it is closed.
pub(super) fn gift() -> (Arc<OwnedFd>, OwnedFd) {
    let (gift, witness) = stream_pair().unwrap();
    (Arc::new(gift), witness)
}

/// Whether all copies of a gift are closed.
pub(super) fn all_closed(gift: Arc<OwnedFd>, witness: &OwnedFd) -> bool {
    drop(gift);
    receive(witness.as_fd(), &mut [0; 1]).is_ok_and(|got| got.len == 0)
}

impl Puppet {
    /// Connects it, with everything a good backend has.
    pub fn connect(frontend: &mut Frontend, now: Instant) -> Self {
        let (socket, peer) = stream_pair().unwrap();
        let requests = stream_pair().unwrap();
        frontend.connect(Connection { socket: peer, requests: Some(requests) }, now);
        let mut config = [0; 60];
        config[34] = 4;
        Self {
            socket,
            requests: None,
            features: 1 << 32 | 1 << 30 | 1 << 29 | 1 << 9 | 1 << 12,
            // MQ, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD.
            protocol: 1 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 12,
            queues: 4,
            accepted: 0,
            log_reply: 8,
            config,
            bases: Vec::new(),
            noise: 0,
            gift: gift().0,
        }
    }

    /// Connects it and starts the queues.
    pub fn serving(frontend: &mut Frontend, now: Instant) -> Self {
        let mut puppet = Self::connect(frontend, now);
        up(frontend, &mut puppet, now);
        frontend.start(activation(), now);
        for _ in 0..4 {
            if matches!(frontend.advance(now), Some(Event::Serving)) {
                return puppet;
            }
            puppet.serve_until_quiet();
        }
        panic!("the queues do not run");
    }

    /// The next message from the frontend, whole.
    pub fn hear(&mut self) -> Heard {
        let mut head = [0; HEADER];
        let got = receive(self.socket.as_fd(), &mut head).expect("nothing was asked");
        assert_eq!(got.len, HEADER);
        let header = Header::decode(&head);
        let mut body = vec![0; header.size as usize];
        if !body.is_empty() {
            assert_eq!(receive(self.socket.as_fd(), &mut body).unwrap().len, body.len());
        }
        let request = FrontendReq::try_from(header.request).unwrap();
        Heard { request, wants_ack: header.needs_reply(), body, fds: got.fds }
    }

    pub fn say(&mut self, request: FrontendReq, body: &[u8]) {
        self.say_with_fds(request, body, 0);
    }

    /// The next number of the generator, below `bound`.
    fn chance(&mut self, bound: usize) -> usize {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        (self.noise >> 11) as usize % bound
    }

    /// Changes, drops, repeats or inserts a byte, or adds descriptors.
    fn damage(&mut self, bytes: &mut Vec<u8>, fds: &mut usize) {
        let at = self.chance(bytes.len());
        match self.chance(5) {
            0 => bytes[at] ^= 1 << self.chance(8),
            1 => bytes.truncate(at),
            2 => bytes.extend_from_within(..at),
            3 => bytes.insert(at, self.chance(256) as u8),
            _ => *fds += 1 + self.chance(32),
        }
    }

    pub fn say_raw(&self, bytes: &[u8]) {
        send(self.socket.as_fd(), bytes, &[]).unwrap();
    }

    /// Says a reply with this many copies of a descriptor.
    pub fn say_with_fds(&mut self, request: FrontendReq, body: &[u8], mut count: usize) {
        let header = Header { request: request.into(), flags: 0b101, size: body.len() as u32 };
        let mut bytes = [&header.encode()[..], body].concat();
        if self.noise != 0 && self.chance(12) == 0 {
            self.damage(&mut bytes, &mut count);
        }
        if !bytes.is_empty() {
            send(self.socket.as_fd(), &bytes, &vec![self.gift.as_fd(); count]).unwrap();
        }
    }

    /// Answers one message as an honest backend does.
    pub fn serve_one(&mut self) -> FrontendReq {
        let Heard { request, wants_ack, body, mut fds } = self.hear();
        match request {
            FrontendReq::GET_FEATURES => self.say(request, &self.features.to_ne_bytes()[..]),
            FrontendReq::GET_PROTOCOL_FEATURES => {
                self.say(request, &self.protocol.to_ne_bytes()[..])
            }
            FrontendReq::GET_QUEUE_NUM => self.say(request, &self.queues.to_ne_bytes()[..]),
            FrontendReq::GET_CONFIG => self.say(request, &[&body[..12], &self.config[..]].concat()),
            FrontendReq::GET_VRING_BASE => self.say(request, &[&body[..4], &[9, 0, 0, 0]].concat()),
            FrontendReq::GET_INFLIGHT_FD => self.say_with_fds(request, &body, 1),
            FrontendReq::SET_FEATURES => self.accepted = long(&body, 0),
            FrontendReq::SET_LOG_BASE => self.say(request, &body[..self.log_reply]),
            FrontendReq::SET_BACKEND_REQ_FD => self.requests = fds.pop(),
            FrontendReq::SET_VRING_BASE => self.bases.push(word(&body, 4)),
            _ => {}
        }
        if wants_ack {
            self.say(request, &[0; 8]);
        }
        request
    }

    pub fn serve_until_quiet(&mut self) -> Vec<FrontendReq> {
        let mut served = Vec::new();
        while wait_readable([self.socket.as_fd()], Some(Default::default())).unwrap()[0] {
            served.push(self.serve_one());
        }
        served
    }

    pub fn announce_change(&self) {
        let header = Header { request: 2, flags: 1 | NEED_REPLY, size: 0 };
        let requests = self.requests.as_ref().expect("no channel");
        send(requests.as_fd(), &header.encode(), &[]).unwrap();
    }
}
