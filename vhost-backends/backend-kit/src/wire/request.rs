//! From a message to a request: every kind that is understood, with its descriptors.
//!
//! Kinds that are not listed belong to protocol features that are not offered (post-copy, crypto,
//! shared objects, device state); a frontend that sends one is dropped.

use std::os::fd::OwnedFd;

use vhost::vhost_user::message::{
    FrontendReq, VhostUserConfig, VhostUserInflight, VhostUserLog, VhostUserMemory,
    VhostUserMemoryRegion, VhostUserMsgValidator, VhostUserSingleMemoryRegion, VhostUserVringAddr,
    VhostUserVringState,
};
use vm_memory::ByteValued;

use super::WireFault;
use super::socket::Message;

/// A region of the frontend's memory table: an allegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Guest-physical address of the first byte.
    pub guest_addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// The frontend's own address of the first byte, by which it names rings.
    pub user_addr: u64,
    /// Offset of the first byte in the memory object.
    pub file_offset: u64,
}

/// A number that belongs to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VringNumber {
    /// Which queue.
    pub index: u32,
    /// The number.
    pub number: u32,
}

/// Where a queue is, in the frontend's addresses; they are aligned as a split queue's must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VringAddresses {
    /// Which queue.
    pub index: u32,
    /// Descriptor table or ring.
    pub descriptors: u64,
    /// Available ring or driver event suppression.
    pub driver: u64,
    /// Used ring or device event suppression.
    pub device: u64,
}

/// Shape of an in-flight table: an allegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableShape {
    /// Bytes.
    pub len: u64,
    /// Offset of the first byte in the memory object.
    pub offset: u64,
    /// Queues, not 0.
    pub queues: u16,
    /// Size of a queue, not 0.
    pub queue_size: u16,
}

/// Where the log of written pages is in its memory object: an allegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlace {
    /// Bytes, not 0.
    pub len: u64,
    /// Offset of the first byte.
    pub offset: u64,
}

/// What a frontend asks for.
#[derive(Debug)]
pub enum Request {
    /// Which virtio features are offered?
    GetFeatures,
    /// These were accepted.
    SetFeatures(u64),
    /// The session begins.
    SetOwner,
    /// Obsolete: stop all queues.
    ResetOwner,
    /// All of guest memory.
    SetMemTable(Vec<(Region, OwnedFd)>),
    /// Mark the pages that are written in this log.
    SetLogBase(LogPlace, OwnedFd),
    /// A queue's size.
    SetVringNum(VringNumber),
    /// Where a queue is, in the frontend's addresses.
    SetVringAddr(VringAddresses),
    /// A queue's position.
    SetVringBase(VringNumber),
    /// Stop a queue; its position?
    GetVringBase(u32),
    /// A queue's kick; starts it.
    SetVringKick(u8, Option<OwnedFd>),
    /// A queue's call.
    SetVringCall(u8, Option<OwnedFd>),
    /// Where a queue's faults are told.
    SetVringErr(u8, Option<OwnedFd>),
    /// Which protocol features are offered?
    GetProtocolFeatures,
    /// These were accepted.
    SetProtocolFeatures(u64),
    /// How many queues are there?
    GetQueueNum,
    /// Serve a queue or not.
    SetVringEnable(u32, bool),
    /// A socket for our own requests.
    SetBackendReqFd(OwnedFd),
    /// A part of the configuration space?
    GetConfig {
        /// First byte.
        offset: u32,
        /// Bytes.
        size: u32,
    },
    /// Write a part of the configuration space.
    SetConfig,
    /// An in-flight table of this shape?
    GetInflightFd(TableShape),
    /// Use this in-flight table.
    SetInflightFd(TableShape, OwnedFd),
    /// How many memory regions can there be?
    GetMaxMemSlots,
    /// One region more.
    AddMemReg(Region, OwnedFd),
    /// One region less.
    RemMemReg(Region),
}

impl Request {
    /// Whether a reply belongs to it, wanted or not. The others are acknowledged if that was
    /// negotiated and asked for.
    pub fn has_reply(&self) -> bool {
        matches!(
            self,
            Self::GetFeatures
                | Self::GetVringBase(_)
                | Self::GetProtocolFeatures
                | Self::GetQueueNum
                | Self::GetConfig { .. }
                | Self::GetInflightFd(_)
                | Self::GetMaxMemSlots
                | Self::SetLogBase(..)
        )
    }

    /// Understands a message.
    pub fn decode(message: Message) -> Result<Self, WireFault> {
        let code = FrontendReq::try_from(message.request);
        let code = code.map_err(|_| WireFault::Unknown(message.request))?;
        let mut parts = Parts { request: message.request, body: message.body, fds: message.fds };
        let decoded = parts.decode(code)?;
        match parts.fds.len() {
            0 => Ok(decoded),
            found => Err(WireFault::Descriptors { request: parts.request, found }),
        }
    }
}

/// A message being taken apart. Descriptors that nobody takes are a fault.
struct Parts {
    request: u32,
    body: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Parts {
    fn decode(&mut self, code: FrontendReq) -> Result<Request, WireFault> {
        Ok(match code {
            FrontendReq::GET_FEATURES => self.bare(Request::GetFeatures)?,
            FrontendReq::SET_FEATURES => Request::SetFeatures(self.number()?),
            FrontendReq::SET_OWNER => self.bare(Request::SetOwner)?,
            FrontendReq::RESET_OWNER => self.bare(Request::ResetOwner)?,
            FrontendReq::SET_MEM_TABLE => self.memory_table()?,
            FrontendReq::SET_LOG_BASE => {
                let log: VhostUserLog = self.exactly()?;
                let place = LogPlace { len: log.mmap_size, offset: log.mmap_offset };
                Request::SetLogBase(place, self.fd()?)
            }
            FrontendReq::SET_VRING_NUM => Request::SetVringNum(self.vring_number()?),
            FrontendReq::SET_VRING_ADDR => Request::SetVringAddr(self.vring_addresses()?),
            FrontendReq::SET_VRING_BASE => Request::SetVringBase(self.vring_number()?),
            FrontendReq::GET_VRING_BASE => Request::GetVringBase(self.vring_number()?.index),
            FrontendReq::SET_VRING_KICK => self.vring_fd(Request::SetVringKick)?,
            FrontendReq::SET_VRING_CALL => self.vring_fd(Request::SetVringCall)?,
            FrontendReq::SET_VRING_ERR => self.vring_fd(Request::SetVringErr)?,
            FrontendReq::GET_PROTOCOL_FEATURES => self.bare(Request::GetProtocolFeatures)?,
            FrontendReq::SET_PROTOCOL_FEATURES => Request::SetProtocolFeatures(self.number()?),
            FrontendReq::GET_QUEUE_NUM => self.bare(Request::GetQueueNum)?,
            FrontendReq::SET_VRING_ENABLE => self.vring_enable()?,
            FrontendReq::SET_BACKEND_REQ_FD => Request::SetBackendReqFd(self.fd()?),
            FrontendReq::GET_CONFIG => self.get_config()?,
            FrontendReq::SET_CONFIG => Request::SetConfig,
            FrontendReq::GET_INFLIGHT_FD => Request::GetInflightFd(self.inflight()?),
            FrontendReq::SET_INFLIGHT_FD => {
                let shape = self.inflight()?;
                Request::SetInflightFd(shape, self.fd()?)
            }
            FrontendReq::GET_MAX_MEM_SLOTS => self.bare(Request::GetMaxMemSlots)?,
            FrontendReq::ADD_MEM_REG => {
                let region = self.region()?;
                Request::AddMemReg(region, self.fd()?)
            }
            FrontendReq::REM_MEM_REG => {
                // Some frontends pass a descriptor, which must be closed unused (vhost-user text).
                self.fds.truncate(self.fds.len().saturating_sub(1));
                Request::RemMemReg(self.region()?)
            }
            _ => return Err(WireFault::Unknown(self.request)),
        })
    }

    fn length(&self) -> WireFault {
        WireFault::Length { request: self.request, found: self.body.len() }
    }

    fn value(&self, field: &'static str) -> WireFault {
        WireFault::Value { request: self.request, field }
    }

    fn bare(&self, request: Request) -> Result<Request, WireFault> {
        if self.body.is_empty() { Ok(request) } else { Err(self.length()) }
    }

    fn number(&self) -> Result<u64, WireFault> {
        let bytes: &[u8; 8] = self.body.as_slice().try_into().map_err(|_| self.length())?;
        Ok(u64::from_ne_bytes(*bytes))
    }

    /// The whole body as a `T` that calls itself valid.
    fn exactly<T: VhostUserMsgValidator + Default>(&self) -> Result<T, WireFault> {
        let value: T = plain(&self.body).ok_or_else(|| self.length())?;
        if value.is_valid() { Ok(value) } else { Err(self.value("field")) }
    }

    fn fd(&mut self) -> Result<OwnedFd, WireFault> {
        let (request, found) = (self.request, self.fds.len());
        self.fds.pop().ok_or(WireFault::Descriptors { request, found })
    }

    /// Bits 0–7 are the queue, bit 8 says that there is no descriptor.
    fn vring_fd(&mut self, make: fn(u8, Option<OwnedFd>) -> Request) -> Result<Request, WireFault> {
        const NO_FD: u64 = 1 << 8;
        let number = self.number()?;
        if number & !(NO_FD | 0xff) != 0 {
            return Err(self.value("queue"));
        }
        let fd = if number & NO_FD == 0 { Some(self.fd()?) } else { None };
        Ok(make(number as u8, fd))
    }

    fn vring_number(&self) -> Result<VringNumber, WireFault> {
        let state: VhostUserVringState = self.exactly()?;
        Ok(VringNumber { index: state.index, number: state.num })
    }

    fn vring_addresses(&self) -> Result<VringAddresses, WireFault> {
        let at: VhostUserVringAddr = self.exactly()?;
        let (index, descriptors) = (at.index, at.descriptor);
        Ok(VringAddresses { index, descriptors, driver: at.available, device: at.used })
    }

    fn vring_enable(&self) -> Result<Request, WireFault> {
        let switch = self.vring_number()?;
        match switch.number {
            0 => Ok(Request::SetVringEnable(switch.index, false)),
            1 => Ok(Request::SetVringEnable(switch.index, true)),
            _ => Err(self.value("switch")),
        }
    }

    fn memory_table(&mut self) -> Result<Request, WireFault> {
        const HEAD: usize = size_of::<VhostUserMemory>();
        const ENTRY: usize = size_of::<VhostUserMemoryRegion>();
        let (head, entries) = self.body.split_at_checked(HEAD).ok_or_else(|| self.length())?;
        let head: VhostUserMemory = plain(head).ok_or_else(|| self.length())?;
        let count = head.num_regions as usize;
        if count.checked_mul(ENTRY) != Some(entries.len()) {
            return Err(self.length());
        }
        let (request, found) = (self.request, self.fds.len());
        if found != count {
            return Err(WireFault::Descriptors { request, found });
        }
        let regions = entries.chunks_exact(ENTRY).filter_map(plain).map(region);
        Ok(Request::SetMemTable(regions.zip(self.fds.drain(..)).collect()))
    }

    fn region(&self) -> Result<Region, WireFault> {
        let single: VhostUserSingleMemoryRegion = self.exactly()?;
        Ok(region(*single))
    }

    /// The requested size stands in the header of the payload; what follows it is room for the
    /// answer, which some frontends send and others do not.
    fn get_config(&self) -> Result<Request, WireFault> {
        let head = self.body.get(..size_of::<VhostUserConfig>()).ok_or_else(|| self.length())?;
        let head: VhostUserConfig = plain(head).ok_or_else(|| self.length())?;
        Ok(Request::GetConfig { offset: head.offset, size: head.size })
    }

    /// QEMU and the `vhost` crate send the structure with its padding, the text has none.
    fn inflight(&self) -> Result<TableShape, WireFault> {
        const FIELDS: usize = 20;
        const PADDED: usize = size_of::<VhostUserInflight>();
        if !matches!(self.body.len(), FIELDS | PADDED) {
            return Err(self.length());
        }
        let mut shape = VhostUserInflight::default();
        for (place, byte) in shape.as_mut_slice().iter_mut().zip(&self.body) {
            *place = *byte;
        }
        if !shape.is_valid() {
            return Err(self.value("shape"));
        }
        let (len, offset) = (shape.mmap_size, shape.mmap_offset);
        Ok(TableShape { len, offset, queues: shape.num_queues, queue_size: shape.queue_size })
    }
}

/// A value of plain data from exactly its bytes, wherever they are aligned.
fn plain<T: ByteValued + Default>(bytes: &[u8]) -> Option<T> {
    let mut value = T::default();
    if bytes.len() != size_of::<T>() {
        return None;
    }
    value.as_mut_slice().copy_from_slice(bytes);
    Some(value)
}

fn region(region: VhostUserMemoryRegion) -> Region {
    Region {
        guest_addr: region.guest_phys_addr,
        len: region.memory_size,
        user_addr: region.user_addr,
        file_offset: region.mmap_offset,
    }
}

#[cfg(test)]
mod tests;
