//! What is negotiated about a queue before its first request.

use bulkhead_memory::{GuestMemory, GuestRange, GuestWindow};

use crate::fault::QueueFault;

/// Guest-physical addresses of a queue's three parts. Nothing in it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingAddresses {
    /// Descriptor table (split) or descriptor ring (packed); a multiple of 16.
    pub descriptors: u64,
    /// Available ring (split, a multiple of 2) or driver event suppression (packed, of 4).
    pub driver: u64,
    /// Used ring (split) or device event suppression (packed); a multiple of 4.
    pub device: u64,
}

/// A queue as the driver set it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSetup {
    /// Descriptors: a power of two up to 32768; for packed rings any number from 1.
    pub size: u16,
    /// Where the parts are.
    pub addresses: RingAddresses,
    /// VIRTIO_F_EVENT_IDX was negotiated.
    pub event_idx: bool,
    /// VIRTIO_F_INDIRECT_DESC was negotiated.
    pub indirect: bool,
}

/// Largest queue of either kind.
const LARGEST: u16 = 1 << 15;

/// Bytes of a descriptor of any kind.
pub(crate) const DESCRIPTOR: u64 = 16;

impl QueueSetup {
    pub(crate) fn check_size(&self) -> Result<(), QueueFault> {
        match self.size {
            1..=LARGEST => Ok(()),
            size => Err(QueueFault::Size(size)),
        }
    }

    pub(crate) fn descriptor_window(
        &self,
        memory: &GuestMemory,
    ) -> Result<GuestWindow, QueueFault> {
        let len = DESCRIPTOR * u64::from(self.size);
        window(memory, self.addresses.descriptors, len, 16)
    }
}

/// Holds a part of a queue, for as long as the queue lives.
pub(crate) fn window(
    memory: &GuestMemory,
    addr: u64,
    len: u64,
    align: u64,
) -> Result<GuestWindow, QueueFault> {
    if !addr.is_multiple_of(align) {
        return Err(QueueFault::Misaligned { addr, align });
    }
    Ok(memory.hold(GuestRange::new(addr, len))?)
}
