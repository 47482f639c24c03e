//! The driver of a packed queue.

use std::sync::atomic::{Ordering, fence};

use bulkhead_memory::{GuestMemory, GuestRange, GuestWindow};
use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_PACKED_EVENT_FLAG_DESC,
    VRING_PACKED_EVENT_FLAG_DISABLE,
};

use super::{Segment, Used, part};
use crate::PackedDescriptor;
use crate::packed::PackedPosition;
use crate::setup::QueueSetup;
use crate::split::crossed;

const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// An honest driver of a packed queue.
pub struct PackedDriver {
    memory: GuestMemory,
    setup: QueueSetup,
    ring: GuestWindow,
    driver: GuestWindow,
    device: GuestWindow,
    available: PackedPosition,
    used: PackedPosition,
    /// Places made available since the device's wish for kicks was last looked at.
    unkicked: u16,
    free_places: u16,
    free_ids: Vec<u16>,
    /// Places of each request in flight, by id; 0: not in flight.
    chains: Vec<u16>,
}

impl PackedDriver {
    /// A driver of a fresh queue.
    pub fn new(memory: &GuestMemory, setup: QueueSetup) -> Self {
        let at = setup.addresses;
        Self {
            memory: memory.clone(),
            setup,
            ring: part(memory, at.descriptors, 16 * u64::from(setup.size)),
            driver: part(memory, at.driver, 4),
            device: part(memory, at.device, 4),
            available: PackedPosition::START,
            used: PackedPosition::START,
            unkicked: 0,
            free_places: setup.size,
            free_ids: (0..setup.size).rev().collect(),
            chains: vec![0; setup.size.into()],
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.chains.iter().filter(|places| **places > 0).count()
    }

    /// Makes a request available; answers its id, or `None` if there is no room.
    pub fn add(&mut self, segments: &[Segment]) -> Option<u16> {
        if segments.is_empty() || segments.len() > usize::from(self.free_places) {
            return None;
        }
        let last = segments.len() - 1;
        let pieces: Vec<_> = segments
            .iter()
            .enumerate()
            .map(|(at, segment)| {
                let mut flags = if segment.device_writes { VRING_DESC_F_WRITE } else { 0 };
                flags |= if at < last { VRING_DESC_F_NEXT } else { 0 };
                (segment.addr, segment.len, flags as u16)
            })
            .collect();
        self.publish(&pieces)
    }

    /// As [`add`](Self::add), by an indirect table at guest address `table`.
    pub fn add_indirect(&mut self, segments: &[Segment], table: u64) -> Option<u16> {
        if segments.is_empty() || self.free_places == 0 {
            return None;
        }
        for (at, segment) in segments.iter().enumerate() {
            let flags = if segment.device_writes { VRING_DESC_F_WRITE as u16 } else { 0 };
            let entry = PackedDescriptor::new(segment.addr, segment.len, 0, flags);
            let place = GuestRange::new(table + 16 * at as u64, 16);
            let slice = self.memory.check(place).expect("the table lies in guest memory");
            slice.write_obj(0, entry).expect("it is writable");
        }
        self.publish(&[(table, 16 * segments.len() as u32, VRING_DESC_F_INDIRECT as u16)])
    }

    fn publish(&mut self, pieces: &[(u64, u32, u16)]) -> Option<u16> {
        let id = self.free_ids.pop()?;
        let first = self.available;
        let ring = self.ring.slice();
        let mut position = first;
        for (addr, len, flags) in pieces {
            let at = 16 * usize::from(position.index);
            let flags = flags | if position.wrap { AVAILABLE } else { USED };
            let before = ring.load_u16(at + 14, Ordering::Relaxed).expect("inside the ring");
            // The first descriptor keeps its old flags until all others stand.
            let now = if position == first { before } else { flags };
            let descriptor = PackedDescriptor::new(*addr, *len, id, now);
            ring.write_obj(at, descriptor).expect("inside the ring");
            position = position.advanced(1, self.setup.size);
        }
        let flags = pieces[0].2 | if first.wrap { AVAILABLE } else { USED };
        let at = 16 * usize::from(first.index) + 14;
        ring.store_u16(at, flags, Ordering::Release).expect("inside the ring");
        let places = pieces.len() as u16;
        self.available = position;
        self.free_places -= places;
        self.unkicked += places;
        self.chains[usize::from(id)] = places;
        Some(id)
    }

    /// Whether the device wants a kick for what was added since this was last asked.
    pub fn wants_kick(&mut self) -> bool {
        let moved = std::mem::take(&mut self.unkicked);
        if moved == 0 {
            return false;
        }
        fence(Ordering::SeqCst);
        let device = self.device.slice();
        let flags = device.load_u16(2, Ordering::Acquire).expect("inside") & 3;
        if flags != VRING_PACKED_EVENT_FLAG_DESC as u16 {
            return flags != VRING_PACKED_EVENT_FLAG_DISABLE as u16;
        }
        let wish = device.load_u16(0, Ordering::Relaxed).expect("inside");
        let lap = |wrap: bool| {
            if wrap == self.available.wrap { 0 } else { self.setup.size }
        };
        let event = (wish & 0x7fff).wrapping_sub(lap(wish >> 15 != 0));
        crossed(event, self.available.index.wrapping_sub(moved), self.available.index)
    }

    /// Takes the next request that the device gave back.
    pub fn poll(&mut self) -> Option<Used> {
        let at = 16 * usize::from(self.used.index);
        let ring = self.ring.slice();
        let flags = ring.load_u16(at + 14, Ordering::Acquire).expect("inside the ring");
        let whose = if self.used.wrap { AVAILABLE | USED } else { 0 };
        if self.in_flight() == 0 || flags & (AVAILABLE | USED) != whose {
            return None;
        }
        let id = ring.load_u16(at + 12, Ordering::Relaxed).expect("inside the ring");
        let written = ring.load_u32(at + 8, Ordering::Relaxed).expect("inside the ring");
        let places = self.chains.get_mut(usize::from(id)).map_or(0, std::mem::take);
        assert!(places > 0, "the device used {id}, which is not in flight");
        self.used = self.used.advanced(places, self.setup.size);
        self.free_places += places;
        self.free_ids.push(id);
        Some(Used { id, written })
    }

    /// Asks for a call at the next used request; `true` if one is there already.
    pub fn want_calls(&mut self) -> bool {
        let driver = self.driver.slice();
        if self.setup.event_idx {
            let place = self.used.index | u16::from(self.used.wrap) << 15;
            driver.store_u16(0, place, Ordering::Relaxed).expect("inside");
            let flags = VRING_PACKED_EVENT_FLAG_DESC as u16;
            driver.store_u16(2, flags, Ordering::Release).expect("inside");
        } else {
            driver.store_u16(2, 0, Ordering::Relaxed).expect("inside");
        }
        fence(Ordering::SeqCst);
        let at = 16 * usize::from(self.used.index) + 14;
        let flags = self.ring.slice().load_u16(at, Ordering::Acquire).expect("inside");
        let whose = if self.used.wrap { AVAILABLE | USED } else { 0 };
        self.in_flight() > 0 && flags & (AVAILABLE | USED) == whose
    }

    /// Asks for no calls.
    pub fn forgo_calls(&mut self) {
        let flags = VRING_PACKED_EVENT_FLAG_DISABLE as u16;
        self.driver.slice().store_u16(2, flags, Ordering::Relaxed).expect("inside");
    }
}
