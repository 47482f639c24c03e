//! The driver of a split queue.

use std::sync::atomic::{Ordering, fence};

use bulkhead_memory::{GuestMemory, GuestRange, GuestWindow};
use virtio_bindings::bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
    VRING_USED_F_NO_NOTIFY,
};

use super::{Segment, Used, part};
use crate::SplitDescriptor;
use crate::setup::QueueSetup;
use crate::split::crossed;

/// An honest driver of a split queue.
pub struct SplitDriver {
    memory: GuestMemory,
    setup: QueueSetup,
    descriptors: GuestWindow,
    available: GuestWindow,
    used: GuestWindow,
    free: Vec<u16>,
    /// Descriptors of each chain in flight, by head.
    chains: Vec<Vec<u16>>,
    next_available: u16,
    kicked_available: u16,
    next_used: u16,
}

impl SplitDriver {
    /// A driver of a fresh queue.
    pub fn new(memory: &GuestMemory, setup: QueueSetup) -> Self {
        let (at, size) = (setup.addresses, u64::from(setup.size));
        Self {
            memory: memory.clone(),
            setup,
            descriptors: part(memory, at.descriptors, 16 * size),
            available: part(memory, at.driver, 6 + 2 * size),
            used: part(memory, at.device, 6 + 8 * size),
            free: (0..setup.size).rev().collect(),
            chains: vec![Vec::new(); setup.size.into()],
            next_available: 0,
            kicked_available: 0,
            next_used: 0,
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.chains.iter().filter(|chain| !chain.is_empty()).count()
    }

    /// Makes a request available; answers its head, or `None` if the descriptors do not suffice.
    pub fn add(&mut self, segments: &[Segment]) -> Option<u16> {
        if segments.is_empty() || segments.len() > self.free.len() {
            return None;
        }
        let chain: Vec<u16> = segments.iter().filter_map(|_| self.free.pop()).collect();
        for (at, segment) in segments.iter().enumerate() {
            let next = chain.get(at + 1).copied();
            self.store(chain[at], descriptor(*segment, next));
        }
        Some(self.publish(chain))
    }

    /// As [`add`](Self::add), by an indirect table at guest address `table`; `lead` of the segments
    /// have descriptors of their own in front of it.
    pub fn add_indirect(&mut self, segments: &[Segment], lead: usize, table: u64) -> Option<u16> {
        let (direct, indirect) = segments.split_at_checked(lead)?;
        if indirect.is_empty() || lead + 1 > self.free.len() {
            return None;
        }
        let chain: Vec<u16> = (0..=lead).filter_map(|_| self.free.pop()).collect();
        for (at, segment) in direct.iter().enumerate() {
            self.store(chain[at], descriptor(*segment, Some(chain[at + 1])));
        }
        for (at, segment) in indirect.iter().enumerate() {
            let next = (at + 1 < indirect.len()).then_some(at as u16 + 1);
            let place = GuestRange::new(table + 16 * at as u64, 16);
            let slice = self.memory.check(place).expect("the table lies in guest memory");
            slice.write_obj(0, descriptor(*segment, next)).expect("it is writable");
        }
        let len = 16 * indirect.len() as u32;
        let flags = VRING_DESC_F_INDIRECT as u16;
        self.store(chain[lead], SplitDescriptor::new(table, len, flags, 0));
        Some(self.publish(chain))
    }

    fn store(&self, index: u16, descriptor: SplitDescriptor) {
        let at = 16 * usize::from(index);
        self.descriptors.slice().write_obj(at, descriptor).expect("inside the table");
    }

    fn publish(&mut self, chain: Vec<u16>) -> u16 {
        let head = chain[0];
        self.chains[usize::from(head)] = chain;
        let at = 4 + 2 * usize::from(self.next_available % self.setup.size);
        let ring = self.available.slice();
        ring.store_u16(at, head, Ordering::Relaxed).expect("inside the ring");
        self.next_available = self.next_available.wrapping_add(1);
        ring.store_u16(2, self.next_available, Ordering::Release).expect("inside the ring");
        head
    }

    /// Whether the device wants a kick for what was added since this was last asked.
    pub fn wants_kick(&mut self) -> bool {
        let before = std::mem::replace(&mut self.kicked_available, self.next_available);
        fence(Ordering::SeqCst);
        let used = self.used.slice();
        if self.setup.event_idx {
            let at = 4 + 8 * usize::from(self.setup.size);
            let event = used.load_u16(at, Ordering::Relaxed).expect("inside the ring");
            return crossed(event, before, self.next_available);
        }
        let flags = used.load_u16(0, Ordering::Relaxed).expect("inside the ring");
        before != self.next_available && flags & VRING_USED_F_NO_NOTIFY as u16 == 0
    }

    /// Takes the next request that the device gave back.
    pub fn poll(&mut self) -> Option<Used> {
        let ring = self.used.slice();
        let now = ring.load_u16(2, Ordering::Acquire).expect("inside the ring");
        let news = now.wrapping_sub(self.next_used);
        assert!(usize::from(news) <= self.in_flight(), "the device used more than it had");
        if news == 0 {
            return None;
        }
        let at = 4 + 8 * usize::from(self.next_used % self.setup.size);
        let id = ring.load_u32(at, Ordering::Relaxed).expect("inside the ring");
        let written = ring.load_u32(at + 4, Ordering::Relaxed).expect("inside the ring");
        self.next_used = self.next_used.wrapping_add(1);
        let chain = self.chains.get_mut(id as usize).map(std::mem::take).unwrap_or_default();
        assert!(!chain.is_empty(), "the device used {id}, which is not in flight");
        self.free.extend(chain.into_iter().rev());
        Some(Used { id: id as u16, written })
    }

    /// Asks for a call at the next used request; `true` if one is there already.
    pub fn want_calls(&mut self) -> bool {
        let ring = self.available.slice();
        if self.setup.event_idx {
            let at = 4 + 2 * usize::from(self.setup.size);
            ring.store_u16(at, self.next_used, Ordering::Relaxed).expect("inside the ring");
        } else {
            ring.store_u16(0, 0, Ordering::Relaxed).expect("inside the ring");
        }
        fence(Ordering::SeqCst);
        self.used.slice().load_u16(2, Ordering::Relaxed) != Ok(self.next_used)
    }

    /// Asks for no calls (without event indices).
    pub fn forgo_calls(&mut self) {
        let flags = VRING_AVAIL_F_NO_INTERRUPT as u16;
        self.available.slice().store_u16(0, flags, Ordering::Relaxed).expect("inside the ring");
    }
}

fn descriptor(segment: Segment, next: Option<u16>) -> SplitDescriptor {
    let mut flags = if segment.device_writes { VRING_DESC_F_WRITE } else { 0 };
    flags |= if next.is_some() { VRING_DESC_F_NEXT } else { 0 };
    SplitDescriptor::new(segment.addr, segment.len, flags as u16, next.unwrap_or(0))
}
