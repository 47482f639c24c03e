//! One mapped region of guest RAM, in the shape `vm-memory` wants.
//!
//! Why not `vm_memory::GuestRegionMmap`: it keeps the memory object's descriptor open for as long as
//! the mapping lives, and whoever breaks into a device process would find it there, ready to be
//! mapped again with other rights. Here the descriptor is used once and is gone.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use bulkhead_sys::mapping::{Rights, SharedMapping};
use vm_memory::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, MemoryRegionAddress, VolatileSlice,
};

use crate::layout::{PAGE, RamRegion};

/// All regions of a guest, sorted, as a [`vm_memory::GuestMemoryBackend`].
pub type MappedRegions = GuestRegionCollection<MappedRegion>;

/// A contiguous piece of guest RAM mapped into this process. Clones share the mapping.
///
/// Invariant: `lead + ram.len` does not overflow and is at most the mapping's length; `ram.len` is
/// not 0 and `ram.guest_addr + ram.len` fits 64 bits.
#[derive(Debug, Clone)]
pub struct MappedRegion {
    mapping: Arc<SharedMapping>,
    ram: RamRegion,
    /// Bytes of the mapping in front of the region: a file offset need not be a multiple of a page.
    lead: usize,
}

impl MappedRegion {
    /// Maps `ram`, whose numbers the caller has checked (see the invariant).
    pub(crate) fn map(fd: impl AsFd, ram: RamRegion, rights: Rights) -> io::Result<Self> {
        let start = ram.file_offset - ram.file_offset % PAGE;
        let lead = (ram.file_offset - start) as usize;
        let mapped = usize::try_from(ram.len).ok().and_then(|len| len.checked_add(lead));
        let mapped = mapped.ok_or(io::ErrorKind::InvalidInput)?;
        let mapping = SharedMapping::map_from(fd, start, mapped, rights)?;
        Ok(Self { mapping: Arc::new(mapping), ram, lead })
    }

    /// Where it lies.
    pub fn ram(&self) -> RamRegion {
        self.ram
    }

    /// What it may be used for.
    pub fn rights(&self) -> Rights {
        self.mapping.rights()
    }

    /// Address of the first byte in this process, for a hypervisor's memory slot.
    pub fn host_addr(&self) -> u64 {
        self.pointer(0) as u64
    }

    /// Pointer to the byte at `offset`; in bounds (or one past the end) if `offset <= ram.len`.
    fn pointer(&self, offset: usize) -> *mut u8 {
        self.mapping.as_ptr().wrapping_add(self.lead).wrapping_add(offset)
    }

    /// Bytes from guest address `addr` to the region's end; `None` if `addr` is not inside.
    pub(crate) fn bytes_from(&self, addr: u64) -> Option<u64> {
        let offset = addr.checked_sub(self.ram.guest_addr)?;
        self.ram.len.checked_sub(offset).filter(|left| *left > 0)
    }

    /// The proof: `count` bytes at `offset`, or `None` if they are not all inside.
    pub(crate) fn volatile(&self, offset: u64, count: u64) -> Option<VolatileSlice<'_>> {
        let end = offset.checked_add(count)?;
        if end > self.ram.len {
            return None;
        }
        let pointer = self.pointer(offset as usize);
        // SAFETY: `offset + count <= ram.len`, and by the invariant the mapping has that many bytes
        // behind `lead`. It lives as long as `self`, to which the slice's lifetime is bound; nobody
        // makes references into it, so other threads, processes and the guest may write meanwhile.
        Some(unsafe { VolatileSlice::new(pointer, count as usize) })
    }
}

impl GuestMemoryRegion for MappedRegion {
    type B = ();

    fn len(&self) -> u64 {
        self.ram.len
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.ram.guest_addr)
    }

    fn bitmap(&self) {}

    fn get_host_address(&self, addr: MemoryRegionAddress) -> Result<*mut u8, GuestMemoryError> {
        let inside = self.check_address(addr).ok_or(GuestMemoryError::InvalidBackendAddress)?;
        Ok(self.pointer(inside.0 as usize))
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_>, GuestMemoryError> {
        self.volatile(offset.0, count as u64).ok_or(GuestMemoryError::InvalidBackendAddress)
    }
}

impl GuestMemoryRegionBytes for MappedRegion {}
