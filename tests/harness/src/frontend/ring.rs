//! The driver's side of a split virtqueue (virtio 1.2, 2.7), on raw memory.
//!
//! It knows descriptors and indices, not requests. What the device writes is read once and checked:
//! a device that completes what it was not given is an error of the test's subject.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use bulkhead_sys::mapping::{OutOfMapping, SharedMapping};

use super::memory::{DESCRIPTOR, Place};

/// Descriptor flag: another one follows.
pub(super) const NEXT: u16 = 1;
/// Descriptor flag: the device writes.
pub(super) const WRITE: u16 = 2;
/// Descriptor flag: a table of descriptors.
pub(super) const INDIRECT: u16 = 4;

/// In the available ring's flags: send no calls.
const NO_INTERRUPT: u16 = 1;
/// In the used ring's flags: send no kicks.
const NO_NOTIFY: u16 = 1;

/// One descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

impl Descriptor {
    pub fn bytes(self) -> [u8; DESCRIPTOR] {
        let mut bytes = [0; DESCRIPTOR];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// A ring.
#[derive(Debug)]
pub(super) struct Ring {
    pub memory: Arc<SharedMapping>,
    pub place: Place,
    size: u16,
    event_idx: bool,
    /// Where the next available entry goes.
    next: u16,
    /// The available index when a kick was last considered.
    kicked: u16,
    /// Used entries taken.
    taken: u16,
}

impl Ring {
    pub fn new(memory: Arc<SharedMapping>, place: Place, size: u16, event_idx: bool) -> Self {
        Self { memory, place, size, event_idx, next: 0, kicked: 0, taken: 0 }
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
    }

    pub fn set_descriptor(&self, index: u16, descriptor: Descriptor) -> Result<(), OutOfMapping> {
        let at = self.place.descriptors + usize::from(index) * DESCRIPTOR;
        self.memory.copy_out(at, &descriptor.bytes())
    }

    /// Makes the chain that begins at `head` available.
    pub fn publish(&mut self, head: u16) -> Result<(), OutOfMapping> {
        let at = self.place.available + 4 + 2 * self.slot(self.next);
        self.memory.atomic_u16(at)?.store(head, Ordering::Relaxed);
        self.next = self.next.wrapping_add(1);
        self.memory.atomic_u16(self.place.available + 2)?.store(self.next, Ordering::Release);
        Ok(())
    }

    /// Makes more available than the ring holds, as no driver may.
    pub fn jump(&mut self) -> Result<(), OutOfMapping> {
        self.next = self.next.wrapping_add(self.size).wrapping_add(1);
        self.memory.atomic_u16(self.place.available + 2)?.store(self.next, Ordering::Release);
        Ok(())
    }

    /// Whether the device wants to hear of what was made available since this was last asked.
    pub fn wants_kick(&mut self) -> Result<bool, OutOfMapping> {
        fence(Ordering::SeqCst);
        let (old, new) = (self.kicked, self.next);
        self.kicked = new;
        if old == new {
            return Ok(false);
        }
        if self.event_idx {
            let at = self.place.used + 4 + 8 * usize::from(self.size);
            let event = self.memory.atomic_u16(at)?.load(Ordering::Relaxed);
            return Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old));
        }
        let flags = self.memory.atomic_u16(self.place.used)?.load(Ordering::Relaxed);
        Ok(flags & NO_NOTIFY == 0)
    }

    /// The device's used index.
    pub fn used_index(&self) -> Result<u16, OutOfMapping> {
        Ok(self.memory.atomic_u16(self.place.used + 2)?.load(Ordering::Acquire))
    }

    /// The next used entry (head, bytes written), if there is one.
    pub fn take_used(&mut self) -> Result<Option<(u32, u32)>, OutOfMapping> {
        if self.used_index()? == self.taken {
            return Ok(None);
        }
        let at = self.place.used + 4 + 8 * self.slot(self.taken);
        let head = self.memory.atomic_u32(at)?.load(Ordering::Relaxed);
        let len = self.memory.atomic_u32(at + 4)?.load(Ordering::Relaxed);
        self.taken = self.taken.wrapping_add(1);
        Ok(Some((head, len)))
    }

    /// Used entries that the device wrote and nobody took yet.
    pub fn untaken(&self) -> Result<u16, OutOfMapping> {
        Ok(self.used_index()?.wrapping_sub(self.taken))
    }

    /// Asks for a call at the next completion; `false` if there is one already.
    pub fn arm_call(&self) -> Result<bool, OutOfMapping> {
        if self.event_idx {
            let at = self.place.available + 4 + 2 * usize::from(self.size);
            self.memory.atomic_u16(at)?.store(self.taken, Ordering::Relaxed);
        } else {
            self.memory.atomic_u16(self.place.available)?.store(0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        Ok(self.used_index()? == self.taken)
    }

    /// Asks for no calls. With event indices an old index says so already.
    pub fn disarm_call(&self) -> Result<(), OutOfMapping> {
        if !self.event_idx {
            self.memory.atomic_u16(self.place.available)?.store(NO_INTERRUPT, Ordering::Relaxed);
        }
        Ok(())
    }
}
