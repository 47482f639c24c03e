//! A vhost-user backend that does as a script says: the far end of core's frontend.
//!
//! It knows the protocol as its specification has it and nothing of the code that it plays against.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use bulkhead_memory::{Grant, RamLayout, Rights};
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_sys::memfd::create_sealed;
use bulkhead_sys::seqpacket::{receive, send_some, stream_pair};
use bulkhead_vhost_frontend::{
    Connection, Event, Frontend, InflightTable, Offer, Patience, Plan, SharedRam, WrittenLog,
};
use bulkhead_virtio_transport::{Activation, DeviceType, QueueBells, QueueRings};
use vhost::vhost_user::message::FrontendReq;

/// Bytes of a message's header: request, flags, size of the body.
pub const HEADER: usize = 12;
/// The flags of a reply: version 1, and that it is one.
pub const REPLY: u32 = 0b101;
/// The sender wants an acknowledgement.
const NEED_REPLY: u32 = 1 << 3;

/// Queues of the device.
pub const QUEUES: u16 = 2;
const RAM: u64 = 1 << 20;
const TABLE: u64 = 1 << 16;

/// Features of a good disk: version 1, protocol features, event indices, indirect descriptors, flush,
/// several queues.
pub const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28 | 1 << 9 | 1 << 12;
/// Protocol features of a good backend: several queues, acknowledgements, requests of its own,
/// configuration, in-flight table.
pub const PROTOCOL: u64 = 1 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 12;

/// Whose backend the frontend expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// One of ours, with an in-flight table.
    Own,
    /// Somebody else's.
    Foreign,
}

/// A frontend for a disk of two queues, as core makes it.
pub fn frontend(whose: Whose) -> Frontend {
    let plan = Plan {
        queues: QUEUES,
        queue_size: 256,
        device: DeviceType::BLK,
        patience: Patience::default(),
    };
    let layout = RamLayout::new(RAM).expect("a multiple of a page");
    let fd = create_sealed("ram", RAM).expect("a memory object");
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&fd).expect("a mapping");
    let bell = || Arc::new(Doorbell::new().expect("an eventfd"));
    let bells = (0..QUEUES).map(|_| QueueBells { kick: bell(), call: bell() }).collect();
    let table = (whose == Whose::Own).then(|| {
        let fd = Arc::new(create_sealed("inflight", TABLE).expect("a memory object"));
        InflightTable { fd, len: TABLE }
    });
    let written = Arc::new(create_sealed("written", 4096).expect("a log"));
    let written = Some(WrittenLog { fd: written, len: 4096 });
    Frontend::new(plan, SharedRam { fd: Arc::new(fd), memory, written }, bells, table)
}

/// What a driver that is ready hands over.
pub fn activation() -> Activation {
    let rings = |at: u64| QueueRings {
        size: 128,
        descriptors: at + 0x1000,
        available: at + 0x2000,
        used: at + 0x3000,
    };
    Activation { features: 1 << 32 | 1 << 9, queues: vec![Some(rings(0)), Some(rings(0x10000))] }
}

/// All events until there are no more.
pub fn events(frontend: &mut Frontend, now: Instant) -> Vec<Event> {
    std::iter::from_fn(|| frontend.advance(now)).collect()
}

/// A message from the frontend.
#[derive(Debug)]
pub struct Heard {
    /// What it wants.
    pub request: FrontendReq,
    /// Whether it wants an acknowledgement.
    pub wants_ack: bool,
    /// Its body.
    pub body: Vec<u8>,
    /// What came along.
    pub fds: Vec<OwnedFd>,
}

/// The backend. What it says of itself can be changed before it says it.
#[derive(Debug)]
pub struct Puppet {
    /// Its end of the vhost-user socket.
    pub socket: OwnedFd,
    /// Its end of the channel for requests of its own, once it has it.
    pub requests: Option<OwnedFd>,
    /// Virtio features.
    pub features: u64,
    /// Protocol features.
    pub protocol: u64,
    /// Queues.
    pub queues: u64,
    /// Configuration space of a disk.
    pub config: [u8; 60],
}

impl Puppet {
    /// Connects a backend that has everything a good one has.
    pub fn connect(frontend: &mut Frontend, now: Instant) -> Self {
        let (socket, peer) = stream_pair().expect("a socket pair");
        let requests = stream_pair().expect("a socket pair");
        frontend.connect(Connection { socket: peer, requests: Some(requests) }, now);
        let mut config = [0; 60];
        config[34] = 4;
        Self { socket, requests: None, features: FEATURES, protocol: PROTOCOL, queues: 4, config }
    }

    /// Connects a good one, shakes hands and starts the queues.
    pub fn serving(frontend: &mut Frontend, now: Instant) -> Self {
        let mut puppet = Self::connect(frontend, now);
        puppet.shake_hands(frontend, now);
        frontend.start(activation(), now);
        for _ in 0..10 {
            if events(frontend, now).iter().any(|event| matches!(event, Event::Serving)) {
                return puppet;
            }
            puppet.serve();
        }
        panic!("the queues do not run");
    }

    /// Serves until the frontend has an offer for the guest.
    pub fn shake_hands(&mut self, frontend: &mut Frontend, now: Instant) -> Offer {
        for _ in 0..10 {
            match frontend.advance(now) {
                Some(Event::Up(offer)) => return offer,
                Some(other) => panic!("{other:?}"),
                None => self.serve(),
            };
        }
        panic!("no handshake");
    }

    /// The next message, if there is one. Read in two calls, so that descriptors stay with theirs.
    pub fn hear(&mut self) -> Option<Heard> {
        let mut head = [0; HEADER];
        let got = receive(self.socket.as_fd(), &mut head).ok().filter(|got| got.len == HEADER)?;
        let word =
            |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut body = vec![0; word(8) as usize];
        if !body.is_empty() {
            let rest = receive(self.socket.as_fd(), &mut body).expect("a body behind its header");
            assert_eq!(rest.len, body.len(), "core sends a message in one piece");
        }
        let request = FrontendReq::try_from(word(0)).expect("a request of the standard");
        Some(Heard { request, wants_ack: word(4) & NEED_REPLY != 0, body, fds: got.fds })
    }

    /// The body of an honest reply, if one is due.
    pub fn reply_to(&mut self, heard: &mut Heard) -> Option<Vec<u8>> {
        let body = &heard.body;
        Some(match heard.request {
            FrontendReq::GET_FEATURES => self.features.to_ne_bytes().to_vec(),
            FrontendReq::GET_PROTOCOL_FEATURES => self.protocol.to_ne_bytes().to_vec(),
            FrontendReq::GET_QUEUE_NUM => self.queues.to_ne_bytes().to_vec(),
            FrontendReq::GET_CONFIG => [&body[..12], &self.config].concat(),
            FrontendReq::GET_VRING_BASE => [&body[..4], &[9, 0, 0, 0]].concat(),
            FrontendReq::GET_INFLIGHT_FD => body.clone(),
            FrontendReq::SET_BACKEND_REQ_FD => {
                self.requests = heard.fds.pop();
                return heard.wants_ack.then(|| vec![0; 8]);
            }
            _ => return heard.wants_ack.then(|| vec![0; 8]),
        })
    }

    /// Answers everything that was asked as an honest backend does; says how much that was.
    pub fn serve(&mut self) -> usize {
        let mut served = 0;
        while let Some(mut heard) = self.hear() {
            let fds = usize::from(heard.request == FrontendReq::GET_INFLIGHT_FD);
            if let Some(body) = self.reply_to(&mut heard) {
                self.say(heard.request.into(), REPLY, &body, fds);
            }
            served += 1;
        }
        served
    }

    /// Says a message with that many descriptors.
    pub fn say(&self, request: u32, flags: u32, body: &[u8], fds: usize) {
        self.say_raw(&message(request, flags, body), fds);
    }

    /// Says bytes with that many descriptors. A frontend that has hung up hears nothing.
    pub fn say_raw(&self, bytes: &[u8], fds: usize) {
        let fds: Vec<BorrowedFd<'_>> = vec![self.socket.as_fd(); fds];
        let _gone = send_some(self.socket.as_fd(), bytes, &fds);
    }

    /// Says bytes on the channel for its own requests.
    pub fn request_raw(&self, bytes: &[u8], fds: usize) {
        if let Some(channel) = &self.requests {
            let fds: Vec<BorrowedFd<'_>> = vec![self.socket.as_fd(); fds];
            let _gone = send_some(channel.as_fd(), bytes, &fds);
        }
    }
}

/// The bytes of a message.
pub fn message(request: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    [&[request, flags, body.len() as u32].map(u32::to_ne_bytes).concat(), body].concat()
}
