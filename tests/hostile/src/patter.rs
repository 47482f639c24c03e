//! What a vhost-user frontend says, message by message, as an honest one would.

use bulkhead_virtqueue::RingAddresses;

use crate::puppet::message;
use crate::stage::{Line, Prop, QUEUES, RAM, USER};

/// Ring features without and with packed rings; indirect descriptors, event indices, version 1 and
/// protocol features in both.
pub const SPLIT: u64 = 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28;
/// See [`SPLIT`].
pub const PACKED: u64 = SPLIT | 1 << 34;

/// Several queues, acknowledgements, requests of the backend's own, configuration, in-flight table,
/// memory slots.
const PROTOCOL: u64 = 1 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 12 | 1 << 15;

/// Version 1; and that an acknowledgement is wanted.
const VERSION: u32 = 1;
const NEED_REPLY: u32 = 1 << 3;

/// Request codes (vhost-user text, "Front-end message types").
mod code {
    pub const GET_FEATURES: u32 = 1;
    pub const SET_FEATURES: u32 = 2;
    pub const SET_OWNER: u32 = 3;
    pub const RESET_OWNER: u32 = 4;
    pub const SET_MEM_TABLE: u32 = 5;
    pub const SET_VRING_NUM: u32 = 8;
    pub const SET_VRING_ADDR: u32 = 9;
    pub const SET_VRING_BASE: u32 = 10;
    pub const GET_VRING_BASE: u32 = 11;
    pub const SET_VRING_KICK: u32 = 12;
    pub const SET_VRING_CALL: u32 = 13;
    pub const SET_VRING_ERR: u32 = 14;
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    pub const GET_QUEUE_NUM: u32 = 17;
    pub const SET_VRING_ENABLE: u32 = 18;
    pub const SET_BACKEND_REQ_FD: u32 = 21;
    pub const GET_CONFIG: u32 = 24;
    pub const SET_CONFIG: u32 = 25;
    pub const GET_INFLIGHT_FD: u32 = 31;
    pub const SET_INFLIGHT_FD: u32 = 32;
    pub const GET_MAX_MEM_SLOTS: u32 = 36;
    pub const ADD_MEM_REG: u32 = 37;
    pub const REM_MEM_REG: u32 = 38;
}

/// What a frontend can say, with what is open in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// SET_OWNER.
    Owner,
    /// RESET_OWNER.
    ResetOwner,
    /// GET_FEATURES.
    AskFeatures,
    /// SET_FEATURES.
    Features(u64),
    /// GET_PROTOCOL_FEATURES.
    AskProtocol,
    /// SET_PROTOCOL_FEATURES.
    Protocol,
    /// GET_QUEUE_NUM.
    AskQueues,
    /// SET_MEM_TABLE with all of guest memory in one region.
    Memory,
    /// GET_MAX_MEM_SLOTS.
    AskSlots,
    /// ADD_MEM_REG, beside the rest.
    AddRegion,
    /// REM_MEM_REG of that.
    RemoveRegion,
    /// SET_VRING_NUM.
    Size(u8, u16),
    /// SET_VRING_ADDR of a queue that begins there.
    Place(u8, RingAddresses),
    /// SET_VRING_BASE.
    Base(u8, u32),
    /// GET_VRING_BASE.
    Stop(u8),
    /// SET_VRING_KICK.
    Kick(u8),
    /// SET_VRING_CALL.
    Call(u8),
    /// SET_VRING_ERR.
    Error(u8),
    /// SET_VRING_ENABLE.
    Enable(u8, bool),
    /// SET_BACKEND_REQ_FD.
    Requests,
    /// GET_CONFIG of that many bytes.
    AskConfig(u32),
    /// SET_CONFIG.
    Config,
    /// GET_INFLIGHT_FD.
    AskTable,
    /// SET_INFLIGHT_FD.
    Table,
}

impl Word {
    /// Its message.
    pub fn line(self, wants_ack: bool) -> Line {
        let (request, body, props) = self.parts();
        let flags = if wants_ack { VERSION | NEED_REPLY } else { VERSION };
        Line { bytes: message(request, flags, &body), props }
    }

    fn parts(self) -> (u32, Vec<u8>, Vec<Prop>) {
        let bare = |request| (request, Vec::new(), Vec::new());
        let bell = |request, queue: u8| (request, long(queue.into()), vec![Prop::Bell]);
        let state =
            |request, queue: u8, number| (request, words(&[queue.into(), number]), Vec::new());
        match self {
            Self::Owner => bare(code::SET_OWNER),
            Self::ResetOwner => bare(code::RESET_OWNER),
            Self::AskFeatures => bare(code::GET_FEATURES),
            Self::Features(features) => (code::SET_FEATURES, long(features), Vec::new()),
            Self::AskProtocol => bare(code::GET_PROTOCOL_FEATURES),
            Self::Protocol => (code::SET_PROTOCOL_FEATURES, long(PROTOCOL), Vec::new()),
            Self::AskQueues => bare(code::GET_QUEUE_NUM),
            Self::Memory => {
                let body = [words(&[1, 0]), region(0, RAM, USER)].concat();
                (code::SET_MEM_TABLE, body, vec![Prop::Memory])
            }
            Self::AskSlots => bare(code::GET_MAX_MEM_SLOTS),
            Self::AddRegion => (code::ADD_MEM_REG, beside(), vec![Prop::Memory]),
            Self::RemoveRegion => (code::REM_MEM_REG, beside(), Vec::new()),
            Self::Size(queue, size) => state(code::SET_VRING_NUM, queue, size.into()),
            Self::Place(queue, rings) => {
                let at = [rings.descriptors, rings.device, rings.driver].map(|at| long(USER + at));
                let body = [words(&[queue.into(), 0]), at.concat(), long(0)].concat();
                (code::SET_VRING_ADDR, body, Vec::new())
            }
            Self::Base(queue, base) => state(code::SET_VRING_BASE, queue, base),
            Self::Stop(queue) => state(code::GET_VRING_BASE, queue, 0),
            Self::Kick(queue) => bell(code::SET_VRING_KICK, queue),
            Self::Call(queue) => bell(code::SET_VRING_CALL, queue),
            Self::Error(queue) => bell(code::SET_VRING_ERR, queue),
            Self::Enable(queue, on) => state(code::SET_VRING_ENABLE, queue, on.into()),
            Self::Requests => (code::SET_BACKEND_REQ_FD, Vec::new(), vec![Prop::Socket]),
            Self::AskConfig(len) => {
                let body = [words(&[0, len, 0]), vec![0; len.min(256) as usize]].concat();
                (code::GET_CONFIG, body, Vec::new())
            }
            Self::Config => {
                (code::SET_CONFIG, [words(&[0, 4, 0]), vec![9; 4]].concat(), Vec::new())
            }
            Self::AskTable => (code::GET_INFLIGHT_FD, shape(0), Vec::new()),
            Self::Table => (code::SET_INFLIGHT_FD, shape(table_len()), vec![Prop::Table]),
        }
    }
}

/// An honest frontend, from its first word to a queue that runs, with or without in-flight table.
pub fn start(features: u64, size: u16, rings: RingAddresses, table: bool) -> Vec<Word> {
    let mut words = vec![Word::Owner, Word::AskFeatures, Word::AskProtocol, Word::Protocol];
    words.extend([Word::Features(features), Word::Memory]);
    if table {
        words.push(Word::Table);
    }
    let base = if features == PACKED { 0x8000_8000 } else { 0 };
    words.extend([Word::Size(0, size), Word::Place(0, rings), Word::Base(0, base)]);
    words.extend([Word::Call(0), Word::Kick(0), Word::Enable(0, true)]);
    words
}

fn table_len() -> u64 {
    bulkhead_protocol::inflight::table_size(QUEUES.queues, QUEUES.queue_size)
}

fn shape(len: u64) -> Vec<u8> {
    let counts = [QUEUES.queues, QUEUES.queue_size].map(u16::to_ne_bytes).concat();
    [long(len), long(0), counts].concat()
}

fn long(number: u64) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Guest address, length, the frontend's address, offset in the object.
fn region(guest: u64, len: u64, user: u64) -> Vec<u8> {
    [guest, len, user, 0].map(long).concat()
}

fn beside() -> Vec<u8> {
    [long(0), region(1 << 20, RAM, USER + (1 << 20))].concat()
}
