//! The memory that a frontend shares with its backend: rings and request slots in one object.
//!
//! Guest-physical addresses begin at [`GUEST_BASE`] and the addresses that the wire calls "user" at
//! [`USER_BASE`]: three different numbers for the same byte, so that a backend that mixes them up fails.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use bulkhead_sys::mapping::{Rights, SharedMapping};
use bulkhead_sys::memfd::create_sealed;
use vhost::VhostUserMemoryRegionInfo;

use super::options::Options;
use super::request::HEADER;

/// Guest-physical address of the object's first byte.
pub(super) const GUEST_BASE: u64 = 1 << 20;
/// "User" address of the object's first byte.
pub(super) const USER_BASE: u64 = 0x7000_0000_0000;

const PAGE: usize = 4096;

/// Bytes of one descriptor.
pub(super) const DESCRIPTOR: usize = 16;
/// Descriptors that an indirect table has room for: the first page of a slot, less the header.
pub(super) const INDIRECT_ENTRIES: usize = (PAGE - HEADER) / DESCRIPTOR;

/// Where one queue's things are, as offsets in the object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub descriptors: usize,
    pub available: usize,
    pub used: usize,
    slots: usize,
    slot_len: usize,
}

impl Place {
    /// The indirect table of a slot.
    pub fn indirect(&self, slot: u16) -> usize {
        self.slots + usize::from(slot) * self.slot_len
    }

    /// The header of a slot. Data that the device reads follows at the next page, then what it writes.
    pub fn header(&self, slot: u16) -> usize {
        self.indirect(slot) + PAGE - HEADER
    }
}

/// The object.
#[derive(Debug)]
pub(super) struct Memory {
    pub mapping: Arc<SharedMapping>,
    fd: OwnedFd,
}

impl Memory {
    /// An object for all queues, and where each lies.
    pub fn new(options: &Options) -> std::io::Result<(Self, Vec<Place>)> {
        let size = usize::from(options.queue_size);
        let slot_len = PAGE + (options.buffer + 1).next_multiple_of(PAGE);
        let mut end = 0;
        let mut take = |len: usize| {
            let start = end;
            end += len.next_multiple_of(PAGE);
            start
        };
        let places: Vec<Place> = (0..options.queues)
            .map(|_| Place {
                descriptors: take(DESCRIPTOR * size),
                available: take(6 + 2 * size),
                used: take(6 + 8 * size),
                slots: take(slot_len * usize::from(options.depth)),
                slot_len,
            })
            .collect();
        let fd = create_sealed("frontend", end as u64)?;
        let mapping = Arc::new(SharedMapping::map(&fd, end, Rights::ReadWrite)?);
        Ok((Self { mapping, fd }, places))
    }

    /// The memory table.
    pub fn table(&self) -> [VhostUserMemoryRegionInfo; 1] {
        [VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST_BASE,
            memory_size: self.mapping.len() as u64,
            userspace_addr: USER_BASE,
            mmap_offset: 0,
            mmap_handle: self.fd.as_raw_fd(),
        }]
    }
}
