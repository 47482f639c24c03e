//! The memory that a frontend shares with its backend: rings and request slots in one object.
//!
//! Guest-physical addresses begin at [`GUEST_BASE`]; the addresses that the wire calls "user" are far from
//! them and, in different regions, far from each other: three different numbers for the same byte, so that
//! a backend that mixes them up fails.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use bulkhead_sys::mapping::{Rights, SharedMapping};
use bulkhead_sys::memfd::create_sealed;
use vhost::VhostUserMemoryRegionInfo;

use super::options::{Options, Sharing};
use super::request::HEADER;

/// Guest-physical address of the object's first byte.
pub(super) const GUEST_BASE: u64 = 1 << 20;
/// "User" address of the first region.
const USER_BASE: u64 = 0x7000_0000_0000;
/// From one region's "user" addresses to the next one's.
const USER_STRIDE: u64 = 1 << 40;

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
    /// From an offset to its "user" address, modulo 2⁶⁴.
    user_base: u64,
}

impl Place {
    /// The indirect table of a slot.
    pub fn indirect(&self, slot: u16) -> usize {
        self.slots + usize::from(slot) * self.slot_len
    }

    /// The "user" address of an offset.
    pub fn user(&self, offset: usize) -> u64 {
        self.user_base.wrapping_add(offset as u64)
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
    /// Offset and length of each region.
    regions: Vec<(usize, usize)>,
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
        let mut places: Vec<Place> = (0..options.queues)
            .map(|_| Place {
                descriptors: take(DESCRIPTOR * size),
                available: take(6 + 2 * size),
                used: take(6 + 8 * size),
                slots: take(slot_len * usize::from(options.depth)),
                slot_len,
                user_base: USER_BASE,
            })
            .collect();
        let regions = match options.sharing {
            Sharing::Table => vec![(0, end)],
            Sharing::TableOfMany | Sharing::Slots => split(&mut places, end),
        };
        let fd = create_sealed("frontend", end as u64)?;
        let mapping = Arc::new(SharedMapping::map(&fd, end, Rights::ReadWrite)?);
        Ok((Self { mapping, fd, regions }, places))
    }

    /// The memory table.
    pub fn table(&self) -> Vec<VhostUserMemoryRegionInfo> {
        let region = |(number, (start, len)): (u64, &(usize, usize))| VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST_BASE + *start as u64,
            memory_size: *len as u64,
            userspace_addr: USER_BASE + number * USER_STRIDE,
            mmap_offset: *start as u64,
            mmap_handle: self.fd.as_raw_fd(),
        };
        (0..).zip(&self.regions).map(region).collect()
    }
}

/// A region for each queue.
fn split(places: &mut [Place], end: usize) -> Vec<(usize, usize)> {
    let starts: Vec<usize> = places.iter().map(|place| place.descriptors).collect();
    let ends = starts.iter().skip(1).copied().chain([end]);
    let regions: Vec<_> =
        starts.iter().zip(ends).map(|(start, end)| (*start, end - start)).collect();
    for (number, place) in (0..).zip(places) {
        let first = USER_BASE + number * USER_STRIDE;
        place.user_base = first.wrapping_sub(place.descriptors as u64);
    }
    regions
}
