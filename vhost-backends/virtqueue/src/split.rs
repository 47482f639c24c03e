//! The split virtqueue (virtio 1.2, section 2.7), device side.

use std::sync::atomic::{Ordering, fence};

use bulkhead_memory::{GuestMemory, GuestRange, GuestWindow};
use virtio_bindings::bindings::virtio_ring::{VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY};

use crate::SplitDescriptor;
use crate::assemble::{Assembly, Links};
use crate::chain::Chain;
use crate::fault::QueueFault;
use crate::occupancy::Occupancy;
use crate::setup::{DESCRIPTOR, QueueSetup, window};

/// Offsets in the available and in the used ring.
const FLAGS: usize = 0;
const INDEX: usize = 2;
const ENTRIES: usize = 4;

/// Where a split queue stands: how many chains were taken and given back since it was set up,
/// modulo 2¹⁶.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitPosition {
    /// Index of the next available entry.
    pub available: u16,
    /// Index of the next used entry.
    pub used: u16,
}

/// A split queue that is served.
///
/// Invariant: `size` is a power of two; the windows have the lengths of their parts.
#[derive(Debug)]
pub struct SplitQueue {
    size: u16,
    event_idx: bool,
    indirect: bool,
    descriptors: GuestWindow,
    available: GuestWindow,
    used: GuestWindow,
    /// Next available entry to take.
    next_available: u16,
    /// The driver's index at the last look.
    known_available: u16,
    /// Next used entry to fill; those from `published_used` on are not yet shown.
    next_used: u16,
    published_used: u16,
    /// What `published_used` was when the driver's wish to be called was last looked at.
    called_used: u16,
    /// The driver was told that it need not kick (without event indices).
    kicks_off: bool,
    held: Occupancy,
}

impl SplitQueue {
    /// Takes up a queue at `position`.
    pub fn new(
        memory: &GuestMemory,
        setup: &QueueSetup,
        position: SplitPosition,
    ) -> Result<Self, QueueFault> {
        setup.check_size()?;
        let size = setup.size;
        if !size.is_power_of_two() {
            return Err(QueueFault::Size(size));
        }
        let [descriptors, available, used] = windows(memory, setup)?;
        Ok(Self {
            size,
            event_idx: setup.event_idx,
            indirect: setup.indirect,
            descriptors,
            available,
            used,
            next_available: position.available,
            known_available: position.available,
            next_used: position.used,
            published_used: position.used,
            called_used: position.used,
            kicks_off: false,
            held: Occupancy::new(size),
        })
    }

    /// The frontend changed its memory table: finds the same rings in the new one.
    pub fn remap(&mut self, memory: &GuestMemory, setup: &QueueSetup) -> Result<(), QueueFault> {
        let same = QueueSetup { size: self.size, ..*setup };
        [self.descriptors, self.available, self.used] = windows(memory, &same)?;
        Ok(())
    }

    /// Descriptors it has.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Where it stands. Used entries that were not published count as used.
    pub fn position(&self) -> SplitPosition {
        SplitPosition { available: self.next_available, used: self.next_used }
    }

    /// Chains taken and not given back.
    pub fn in_flight(&self) -> u16 {
        self.held.count()
    }

    /// The used index in guest memory: after a crash, what the predecessor published last.
    pub fn used_in_memory(&self) -> Result<u16, QueueFault> {
        Ok(self.used.slice().load_u16(INDEX, Ordering::Acquire)?)
    }

    /// Whether the driver has made something available.
    fn ready(&mut self) -> Result<bool, QueueFault> {
        if self.known_available == self.next_available {
            // Acquire: what the driver wrote to the rings comes before its index.
            let now = self.available.slice().load_u16(INDEX, Ordering::Acquire)?;
            if now.wrapping_sub(self.next_available) > self.size {
                let (seen, size) = (self.next_available, self.size);
                return Err(QueueFault::IndexJump { seen, now, size });
            }
            self.known_available = now;
        }
        Ok(self.known_available != self.next_available)
    }

    /// Takes the next chain, if there is one, into `chain`.
    #[inline]
    pub fn take(&mut self, memory: &GuestMemory, chain: &mut Chain) -> Result<bool, QueueFault> {
        if !self.ready()? {
            return Ok(false);
        }
        let entry = usize::from(self.next_available & (self.size - 1));
        let head = self.available.slice().load_u16(ENTRIES + 2 * entry, Ordering::Relaxed)?;
        self.take_again(memory, head, chain)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(true)
    }

    /// Takes a chain that a predecessor had in flight, by its head.
    pub fn take_again(
        &mut self,
        memory: &GuestMemory,
        head: u16,
        chain: &mut Chain,
    ) -> Result<(), QueueFault> {
        self.take_unread(head)?;
        let mut assembly = Assembly::new(memory, chain, self.indirect);
        let walked = self.walk(head, &mut assembly);
        let chain = assembly.chain();
        (chain.id, chain.slots) = (head, 1);
        if walked.is_err() {
            self.held.remove(head);
        }
        walked
    }

    /// As [`take_again`](Self::take_again), for a chain that is to be given back without a look at it.
    pub fn take_unread(&mut self, head: u16) -> Result<(), QueueFault> {
        if head >= self.size {
            let size = self.size.into();
            return Err(QueueFault::NoDescriptor { index: head.into(), size });
        }
        match self.held.insert(head) {
            true => Ok(()),
            false => Err(QueueFault::InFlight(head)),
        }
    }

    fn walk(&self, head: u16, assembly: &mut Assembly<'_>) -> Result<(), QueueFault> {
        let table = self.descriptors.slice();
        let mut index = head;
        for _ in 0..self.size {
            let descriptor: SplitDescriptor =
                table.read_obj(usize::from(index) * DESCRIPTOR as usize)?;
            let (addr, len) = (descriptor.addr().0, descriptor.len());
            if descriptor.refers_to_indirect_table() {
                let table = GuestRange::new(addr, len.into());
                return assembly.push_indirect(table, descriptor.has_next(), Links::ByField);
            }
            assembly.push(addr, len, descriptor.is_write_only())?;
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
            if index >= self.size {
                let size = self.size.into();
                return Err(QueueFault::NoDescriptor { index: index.into(), size });
            }
        }
        Err(QueueFault::Endless(self.size.into()))
    }

    /// Gives a chain back; `written` bytes of it were written from its first writable byte on. The
    /// driver sees it after [`publish`](Self::publish). A chain that is not in flight is ignored.
    pub fn give_back(&mut self, id: u16, written: u32) -> Result<(), QueueFault> {
        if !self.held.remove(id) {
            return Ok(());
        }
        let entry = ENTRIES + 8 * usize::from(self.next_used & (self.size - 1));
        let used = self.used.slice();
        used.store_u32(entry, id.into(), Ordering::Relaxed)?;
        used.store_u32(entry + 4, written, Ordering::Relaxed)?;
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }

    /// Puts the chain that was taken last back into the ring, as if it had not been taken. A chain
    /// that is not in flight is ignored.
    pub fn untake(&mut self, id: u16) {
        if self.held.remove(id) {
            self.next_available = self.next_available.wrapping_sub(1);
        }
    }

    /// Shows the driver all that was given back; answers the new used index.
    pub fn publish(&mut self) -> Result<u16, QueueFault> {
        // Release: buffers and entries come before the index.
        self.used.slice().store_u16(INDEX, self.next_used, Ordering::Release)?;
        self.published_used = self.next_used;
        Ok(self.published_used)
    }

    /// Whether the driver wants to be called for what was published since it was last asked.
    pub fn wants_call(&mut self) -> Result<bool, QueueFault> {
        let (before, now) = (self.called_used, self.published_used);
        if before == now {
            return Ok(false);
        }
        self.called_used = now;
        // Store the used index, then look at the driver's wish: pairs with the driver's barrier
        // between storing its wish and looking at the used index (2.7.7.2).
        fence(Ordering::SeqCst);
        let available = self.available.slice();
        if self.event_idx {
            let at = ENTRIES + 2 * usize::from(self.size);
            let event = available.load_u16(at, Ordering::Relaxed)?;
            return Ok(crossed(event, before, now));
        }
        let flags = available.load_u16(FLAGS, Ordering::Relaxed)?;
        Ok(flags & VRING_AVAIL_F_NO_INTERRUPT as u16 == 0)
    }

    /// Tells the driver that it need not kick: the device looks by itself for now.
    pub fn forgo_kicks(&mut self) -> Result<(), QueueFault> {
        // With event indices the driver kicks when it passes the index of the last wish, so it need
        // not be told anything.
        if !self.event_idx && !self.kicks_off {
            self.kicks_off = true;
            let flags = VRING_USED_F_NO_NOTIFY as u16;
            self.used.slice().store_u16(FLAGS, flags, Ordering::Relaxed)?;
        }
        Ok(())
    }

    /// Asks the driver to kick for the next chain, and looks once more: `true` if one is there
    /// already, and no kick may come for it.
    pub fn want_kicks(&mut self) -> Result<bool, QueueFault> {
        let used = self.used.slice();
        if self.event_idx {
            let at = ENTRIES + 8 * usize::from(self.size);
            used.store_u16(at, self.next_available, Ordering::Relaxed)?;
        } else if self.kicks_off {
            self.kicks_off = false;
            used.store_u16(FLAGS, 0, Ordering::Relaxed)?;
        }
        // Store the wish, then look at the index: pairs with the driver's barrier (2.7.10).
        fence(Ordering::SeqCst);
        self.ready()
    }
}

/// Descriptor table, available ring, used ring.
fn windows(memory: &GuestMemory, setup: &QueueSetup) -> Result<[GuestWindow; 3], QueueFault> {
    let (at, size) = (setup.addresses, u64::from(setup.size));
    // Flags, index, entries, event index (2.7.6, 2.7.8).
    let available = window(memory, at.driver, 6 + 2 * size, 2)?;
    let used = window(memory, at.device, 6 + 8 * size, 4)?;
    Ok([setup.descriptor_window(memory)?, available, used])
}

/// Whether an index that moved from `before` to `now` passed `event` (2.7.7.2: an event index asks
/// for the entry after it).
pub(crate) fn crossed(event: u16, before: u16, now: u16) -> bool {
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}
