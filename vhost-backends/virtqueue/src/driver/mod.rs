//! The driver's side of a virtqueue, for tests: what an honest guest does with its rings.
//!
//! Law: it follows the rules of virtio 1.2 for drivers, and panics when the device breaks those for
//! devices. Hostile guests are made in the tests by writing over what it wrote.

mod packed;
mod split;

use bulkhead_memory::{Grant, GuestMemory, GuestRange, RamLayout, Rights};

pub use packed::PackedDriver;
pub use split::SplitDriver;

use crate::setup::RingAddresses;

/// A buffer of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Guest address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// The device may write it.
    pub device_writes: bool,
}

impl Segment {
    /// A buffer for the device to read.
    pub const fn read(addr: u64, len: u32) -> Self {
        Self { addr, len, device_writes: false }
    }

    /// A buffer for the device to write.
    pub const fn write(addr: u64, len: u32) -> Self {
        Self { addr, len, device_writes: true }
    }
}

/// A request that the device gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Head (split) or buffer id (packed), as [`SplitDriver::add`] or [`PackedDriver::add`] said.
    pub id: u16,
    /// Bytes that the device says it wrote.
    pub written: u32,
}

/// Guest memory of `len` bytes at address 0, and its descriptor.
pub fn ram(len: u64) -> (GuestMemory, std::os::fd::OwnedFd) {
    let layout = RamLayout::new(len).expect("a multiple of a page");
    let fd = bulkhead_sys::memfd::create_sealed("guest", len).expect("a memory object");
    let memory = Grant::whole(&layout, Rights::ReadWrite).map(&fd).expect("a mapping");
    (memory, fd)
}

/// Where a queue of `size` descriptors that begins at `base` (a multiple of 16) has its parts; it
/// needs at most `32 * size + 64` bytes.
pub fn layout(base: u64, size: u16) -> RingAddresses {
    let size = u64::from(size);
    let driver = base + 16 * size;
    let device = (driver + 6 + 2 * size).next_multiple_of(16);
    RingAddresses { descriptors: base, driver, device }
}

fn part(memory: &GuestMemory, addr: u64, len: u64) -> bulkhead_memory::GuestWindow {
    memory.hold(GuestRange::new(addr, len)).expect("rings lie in guest memory")
}
