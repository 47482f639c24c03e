//! The packed virtqueue (virtio 1.2, section 2.8), device side.

use std::sync::atomic::{Ordering, fence};

use bulkhead_memory::{GuestMemory, GuestRange, GuestWindow};
use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_WRITE, VRING_PACKED_DESC_F_AVAIL, VRING_PACKED_DESC_F_USED,
    VRING_PACKED_EVENT_FLAG_DESC, VRING_PACKED_EVENT_FLAG_DISABLE, VRING_PACKED_EVENT_FLAG_ENABLE,
};

use crate::PackedDescriptor;
use crate::assemble::{Assembly, Links, MOST_DESCRIPTORS};
use crate::chain::Chain;
use crate::fault::QueueFault;
use crate::setup::{DESCRIPTOR, QueueSetup, window};
use crate::split::crossed;

/// Flag bits by which driver and device say whose a descriptor is (2.8.1).
const AVAILABLE: u16 = 1 << VRING_PACKED_DESC_F_AVAIL;
const USED: u16 = 1 << VRING_PACKED_DESC_F_USED;

/// Offsets in a descriptor.
const LEN: usize = 8;
const ID: usize = 12;
const FLAGS: usize = 14;

/// Offsets in an event suppression structure (2.8.14).
const EVENT_PLACE: usize = 0;
const EVENT_FLAGS: usize = 2;

/// A place in the ring and the lap it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedPosition {
    /// Index of a descriptor.
    pub index: u16,
    /// The wrap counter: it starts as `true` and flips with each lap.
    pub wrap: bool,
}

impl PackedPosition {
    /// Where a new ring begins.
    pub const START: Self = Self { index: 0, wrap: true };

    /// `by` places further in a ring of `size`; `by` is at most `size`.
    pub fn advanced(self, by: u16, size: u16) -> Self {
        let place = u32::from(self.index) + u32::from(by);
        match place.checked_sub(size.into()) {
            None => Self { index: place as u16, wrap: self.wrap },
            Some(rest) => Self { index: rest as u16, wrap: !self.wrap },
        }
    }

    /// `by` places back in a ring of `size`; `by` is at most `size`.
    fn retreated(self, by: u16, size: u16) -> Self {
        match self.index.checked_sub(by) {
            Some(index) => Self { index, wrap: self.wrap },
            None => Self { index: size - (by - self.index), wrap: !self.wrap },
        }
    }

    /// The ownership bits of a descriptor that the driver made available in this lap.
    fn available_bits(self) -> u16 {
        if self.wrap { AVAILABLE } else { USED }
    }

    /// The ownership bits of a descriptor that the device used in this lap.
    fn used_bits(self) -> u16 {
        if self.wrap { AVAILABLE | USED } else { 0 }
    }

    fn offset(self) -> usize {
        usize::from(self.index) * DESCRIPTOR as usize
    }
}

/// A packed queue that is served.
///
/// Invariant: both positions are below `size`; `held` places lie between used and available.
#[derive(Debug)]
pub struct PackedQueue {
    size: u16,
    event_idx: bool,
    indirect: bool,
    ring: GuestWindow,
    driver: GuestWindow,
    device: GuestWindow,
    available: PackedPosition,
    used: PackedPosition,
    /// What `used` was when the driver's wish to be called was last looked at.
    called: PackedPosition,
    /// Places given back since then.
    uncalled: u32,
    /// Places taken and not given back.
    held: u16,
    /// What the device event suppression structure says.
    kicks: Kicks,
}

/// The device's wish for kicks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kicks {
    /// What a predecessor left; unknown.
    Unknown,
    Forgone,
    Wanted(PackedPosition),
}

impl PackedQueue {
    /// Takes up a queue whose next available and next used descriptor are given.
    pub fn new(
        memory: &GuestMemory,
        setup: &QueueSetup,
        available: PackedPosition,
        used: PackedPosition,
    ) -> Result<Self, QueueFault> {
        setup.check_size()?;
        let size = setup.size;
        for position in [available, used] {
            if position.index >= size {
                let (index, size) = (position.index.into(), size.into());
                return Err(QueueFault::NoDescriptor { index, size });
            }
        }
        let [ring, driver, device] = windows(memory, setup)?;
        Ok(Self {
            size,
            event_idx: setup.event_idx,
            indirect: setup.indirect,
            ring,
            driver,
            device,
            available,
            used,
            called: used,
            uncalled: 0,
            held: 0,
            kicks: Kicks::Unknown,
        })
    }

    /// The frontend changed its memory table: finds the same rings in the new one.
    pub fn remap(&mut self, memory: &GuestMemory, setup: &QueueSetup) -> Result<(), QueueFault> {
        let same = QueueSetup { size: self.size, ..*setup };
        [self.ring, self.driver, self.device] = windows(memory, &same)?;
        Ok(())
    }

    /// Descriptors it has.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Next descriptor to take and next to use.
    pub fn position(&self) -> (PackedPosition, PackedPosition) {
        (self.available, self.used)
    }

    /// Places taken and not given back.
    pub fn in_flight(&self) -> u16 {
        self.held
    }

    /// Whether the descriptor at `position` still says that the driver made it available in that
    /// lap: after a crash, whether the predecessor did not use it.
    pub fn is_available(&self, position: PackedPosition) -> Result<bool, QueueFault> {
        let flags = self.ring.slice().load_u16(position.offset() + FLAGS, Ordering::Acquire)?;
        Ok(flags & (AVAILABLE | USED) == position.available_bits())
    }

    /// Takes the next chain, if there is one, into `chain`.
    #[inline]
    pub fn take(&mut self, memory: &GuestMemory, chain: &mut Chain) -> Result<bool, QueueFault> {
        if self.held == self.size {
            // All places are the device's; what stands at the next one is a chain in flight.
            return Ok(false);
        }
        // Acquire: the driver writes this word last, after all of the chain.
        let flags =
            self.ring.slice().load_u16(self.available.offset() + FLAGS, Ordering::Acquire)?;
        if flags & (AVAILABLE | USED) != self.available.available_bits() {
            return Ok(false);
        }
        let mut assembly = Assembly::new(memory, chain, self.indirect);
        let slots = self.walk(flags, &mut assembly)?;
        self.held += slots;
        self.available = self.available.advanced(slots, self.size);
        Ok(true)
    }

    /// Copies the chain whose first descriptor has `flags`; answers how many places it takes.
    fn walk(&self, flags: u16, assembly: &mut Assembly<'_>) -> Result<u16, QueueFault> {
        let ring = self.ring.slice();
        let (mut position, mut flags) = (self.available, flags);
        for slots in 1..=(self.size - self.held).min(MOST_DESCRIPTORS as u16) {
            let copy: PackedDescriptor = ring.read_obj(position.offset())?;
            // The flags that said whose the chain is are the ones that count.
            let (addr, len, id) = (copy.addr().0, copy.len(), copy.id());
            let copy = PackedDescriptor::new(addr, len, id, flags);
            assembly.chain().ring.push(copy);
            if !self.append(copy, assembly)? {
                let chain = assembly.chain();
                (chain.id, chain.slots) = (id, slots);
                return Ok(slots);
            }
            position = position.advanced(1, self.size);
            flags = ring.load_u16(position.offset() + FLAGS, Ordering::Relaxed)?;
        }
        Err(QueueFault::Endless((self.size - self.held).into()))
    }

    /// Adds a descriptor of the ring to the chain; answers whether another follows.
    fn append(
        &self,
        copy: PackedDescriptor,
        assembly: &mut Assembly<'_>,
    ) -> Result<bool, QueueFault> {
        let (addr, len) = (copy.addr().0, copy.len());
        if copy.refers_to_indirect_table() {
            let table = GuestRange::new(addr, len.into());
            assembly.push_indirect(table, copy.has_next(), Links::InOrder)?;
            return Ok(false);
        }
        assembly.push(addr, len, copy.is_write_only())?;
        Ok(copy.has_next())
    }

    /// Takes a chain that a predecessor had in flight, from copies of its descriptors (the ring's own
    /// may have been overwritten by used ones since).
    pub fn take_again(
        &mut self,
        memory: &GuestMemory,
        descriptors: &[PackedDescriptor],
        chain: &mut Chain,
    ) -> Result<(), QueueFault> {
        let slots = u16::try_from(descriptors.len()).unwrap_or(u16::MAX);
        if slots == 0 || slots > self.size - self.held {
            return Err(QueueFault::Endless((self.size - self.held).into()));
        }
        let mut assembly = Assembly::new(memory, chain, self.indirect);
        for (at, copy) in descriptors.iter().enumerate() {
            let follows = self.append(*copy, &mut assembly)?;
            if follows != (at + 1 < descriptors.len()) {
                return Err(QueueFault::Endless(slots.into()));
            }
        }
        let chain = assembly.chain();
        chain.id = descriptors.last().map_or(0, |last| last.id());
        chain.slots = slots;
        self.held += slots;
        Ok(())
    }

    /// As [`take_again`](Self::take_again), for a chain of `slots` places that is to be given back
    /// without a look at it.
    pub fn take_unread(&mut self, slots: u16) -> Result<(), QueueFault> {
        if slots == 0 || slots > self.size - self.held {
            return Err(QueueFault::Endless((self.size - self.held).into()));
        }
        self.held += slots;
        Ok(())
    }

    /// Gives a chain of `slots` places back; `written` bytes of it were written from its first
    /// writable byte on. The driver sees it at once.
    ///
    /// Why not in batches (all but the first descriptor's flags early, the first's last): what a
    /// predecessor wrote early would mislead the driver when its successor gives other chains back
    /// first.
    pub fn give_back(&mut self, id: u16, slots: u16, written: u32) -> Result<(), QueueFault> {
        let ring = self.ring.slice();
        let at = self.used.offset();
        ring.store_u16(at + ID, id, Ordering::Relaxed)?;
        ring.store_u32(at + LEN, written, Ordering::Relaxed)?;
        let wrote = if written > 0 { VRING_DESC_F_WRITE as u16 } else { 0 };
        // Release: buffers, id and length come before the flags.
        ring.store_u16(at + FLAGS, self.used.used_bits() | wrote, Ordering::Release)?;
        self.used = self.used.advanced(slots, self.size);
        self.held = self.held.saturating_sub(slots);
        self.uncalled = self.uncalled.saturating_add(slots.into());
        Ok(())
    }

    /// Puts the chain of `slots` places that was taken last back into the ring, as if it had not been
    /// taken.
    pub fn untake(&mut self, slots: u16) {
        let slots = slots.min(self.held);
        self.held -= slots;
        self.available = self.available.retreated(slots, self.size);
    }

    /// Whether the driver wants to be called for what was given back since it was last asked.
    pub fn wants_call(&mut self) -> Result<bool, QueueFault> {
        if self.uncalled == 0 {
            return Ok(false);
        }
        let before = std::mem::replace(&mut self.called, self.used);
        let moved = std::mem::replace(&mut self.uncalled, 0);
        // Store the used descriptor, then look at the driver's wish (2.8.21.3.1).
        fence(Ordering::SeqCst);
        let driver = self.driver.slice();
        let flags = driver.load_u16(EVENT_FLAGS, Ordering::Acquire)? & 3;
        if flags != VRING_PACKED_EVENT_FLAG_DESC as u16 || !self.event_idx {
            return Ok(flags != VRING_PACKED_EVENT_FLAG_DISABLE as u16);
        }
        if moved >= self.size.into() {
            // A whole lap passes every place.
            return Ok(true);
        }
        let wish = driver.load_u16(EVENT_PLACE, Ordering::Relaxed)?;
        Ok(self.passed(wish, before))
    }

    /// Whether the used position moved past the wish. Places are counted on a circle of 16 bits in
    /// which the current lap begins at 0 and the one before lies below.
    fn passed(&self, wish: u16, before: PackedPosition) -> bool {
        let lap = |wrap: bool| if wrap == self.used.wrap { 0 } else { self.size };
        let event = (wish & 0x7fff).wrapping_sub(lap(wish >> 15 != 0));
        let before = before.index.wrapping_sub(lap(before.wrap));
        crossed(event, before, self.used.index)
    }

    /// Tells the driver that it need not kick: the device looks by itself for now.
    pub fn forgo_kicks(&mut self) -> Result<(), QueueFault> {
        if self.kicks != Kicks::Forgone {
            self.kicks = Kicks::Forgone;
            let flags = VRING_PACKED_EVENT_FLAG_DISABLE as u16;
            self.device.slice().store_u16(EVENT_FLAGS, flags, Ordering::Relaxed)?;
        }
        Ok(())
    }

    /// Asks the driver to kick for the next chain, and looks once more: `true` if one is there
    /// already, and no kick may come for it.
    pub fn want_kicks(&mut self) -> Result<bool, QueueFault> {
        if self.kicks != Kicks::Wanted(self.available) {
            self.kicks = Kicks::Wanted(self.available);
            self.store_wish()?;
        }
        // Store the wish, then look at the descriptor (2.8.21.2.1).
        fence(Ordering::SeqCst);
        if self.held == self.size {
            return Ok(false);
        }
        self.is_available(self.available)
    }

    fn store_wish(&self) -> Result<(), QueueFault> {
        let device = self.device.slice();
        if !self.event_idx {
            let flags = VRING_PACKED_EVENT_FLAG_ENABLE as u16;
            return Ok(device.store_u16(EVENT_FLAGS, flags, Ordering::Relaxed)?);
        }
        let place = self.available.index | u16::from(self.available.wrap) << 15;
        device.store_u16(EVENT_PLACE, place, Ordering::Relaxed)?;
        // Release: the place comes before the flag that makes it count.
        let flags = VRING_PACKED_EVENT_FLAG_DESC as u16;
        Ok(device.store_u16(EVENT_FLAGS, flags, Ordering::Release)?)
    }
}

/// Descriptor ring, driver and device event suppression.
fn windows(memory: &GuestMemory, setup: &QueueSetup) -> Result<[GuestWindow; 3], QueueFault> {
    let driver = window(memory, setup.addresses.driver, 4, 4)?;
    let device = window(memory, setup.addresses.device, 4, 4)?;
    Ok([setup.descriptor_window(memory)?, driver, device])
}
