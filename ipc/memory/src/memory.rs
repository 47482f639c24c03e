//! All of guest memory that this process may see, and the one door to it: [`GuestMemory::check`].
//!
//! Made from a [`Grant`](crate::Grant) or, in a vhost-user backend, from the frontend's memory table.
//! Law: regions are checked before they are mapped; nothing here trusts that they come from us.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::Rights;
use crate::layout::RamRegion;
use crate::range::{GuestRange, OutOfRange};
use crate::region::{MappedRegion, MappedRegions};
use crate::slice::GuestSlice;
use crate::window::GuestWindow;
use crate::written::{Log, WrittenPages};

/// What is wrong with a region that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegionFault {
    /// It has no bytes.
    #[error("is empty")]
    Empty,
    /// Its end does not fit 64 bits, in the guest's addresses or in the file's offsets.
    #[error("ends beyond 64 bits")]
    Overflow,
    /// It covers guest addresses that another region covers.
    #[error("overlaps another region")]
    Overlap,
    /// There is no region of exactly that address and length.
    #[error("is not mapped")]
    Unknown,
}

/// Why guest memory could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The table is wrong: whoever sent it (Peer) is to blame.
    #[error("region of {:#x} bytes at guest address {:#x} {fault}", region.len, region.guest_addr)]
    Peer {
        /// The region.
        region: RamRegion,
        /// What is wrong with it.
        fault: RegionFault,
    },
    /// The kernel refused the mapping.
    #[error("region of {:#x} bytes at guest address {:#x} cannot be mapped: {error}", region.len, region.guest_addr)]
    Host {
        /// The region.
        region: RamRegion,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Guest memory as this process sees it. Clones share the mappings; the last one unmaps.
#[derive(Debug, Clone, Default)]
pub struct GuestMemory {
    regions: Arc<MappedRegions>,
    log: Arc<Log>,
}

impl GuestMemory {
    /// A guest without memory, to which regions are added.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Maps regions of one memory object, in any order. The descriptor may be closed afterwards.
    pub fn map(
        fd: BorrowedFd<'_>,
        regions: &[RamRegion],
        rights: Rights,
    ) -> Result<Self, MapError> {
        Self::map_each(regions.iter().map(|region| (*region, fd)), rights)
    }

    /// Maps regions that come with a descriptor each, as in a vhost-user memory table. The
    /// descriptors are closed. Objects may be unsealed (a foreign frontend's are): one that shrinks
    /// kills this process by SIGBUS, which costs a restart.
    pub fn map_regions(
        regions: Vec<(RamRegion, OwnedFd)>,
        rights: Rights,
    ) -> Result<Self, MapError> {
        Self::map_each(regions, rights)
    }

    fn map_each(
        regions: impl IntoIterator<Item = (RamRegion, impl AsFd)>,
        rights: Rights,
    ) -> Result<Self, MapError> {
        let mut memory = Self::empty();
        for (region, fd) in regions {
            memory = memory.with_region(region, fd.as_fd(), rights)?;
        }
        Ok(memory)
    }

    /// This memory and one region more (vhost-user ADD_MEM_REG).
    pub fn with_region(
        &self,
        region: RamRegion,
        fd: BorrowedFd<'_>,
        rights: Rights,
    ) -> Result<Self, MapError> {
        let blame = |fault| MapError::Peer { region, fault };
        self.fits(region).map_err(blame)?;
        let mapped = MappedRegion::map(fd, region, rights)
            .map_err(|error| MapError::Host { region, error })?;
        let regions = self.regions.insert_region(Arc::new(mapped));
        let regions = Arc::new(regions.map_err(|_| blame(RegionFault::Overlap))?);
        Ok(Self { regions, log: Arc::clone(&self.log) })
    }

    /// This memory without the region of exactly this address and length (vhost-user REM_MEM_REG).
    pub fn without_region(&self, guest_addr: u64, len: u64) -> Result<Self, MapError> {
        let region = RamRegion { guest_addr, len, file_offset: 0 };
        match self.regions.remove_region(GuestAddress(guest_addr), len) {
            Ok((regions, _removed)) => {
                Ok(Self { regions: Arc::new(regions), log: Arc::clone(&self.log) })
            }
            Err(_) => Err(MapError::Peer { region, fault: RegionFault::Unknown }),
        }
    }

    fn fits(&self, region: RamRegion) -> Result<(), RegionFault> {
        if region.len == 0 {
            return Err(RegionFault::Empty);
        }
        let end = region.guest_end().ok_or(RegionFault::Overflow)?;
        region.file_offset.checked_add(region.len).ok_or(RegionFault::Overflow)?;
        let overlaps = |other: &MappedRegion| {
            let other = other.ram();
            region.guest_addr < other.guest_addr + other.len && other.guest_addr < end
        };
        match self.regions().any(overlaps) {
            true => Err(RegionFault::Overlap),
            false => Ok(()),
        }
    }

    /// Turns an allegation into a proof. The range must lie within one region; an empty range must
    /// start inside one.
    #[inline]
    pub fn check(&self, range: GuestRange) -> Result<GuestSlice<'_>, OutOfRange> {
        let region = self.find(range)?;
        let available = region.bytes_from(range.addr).unwrap_or(0);
        let offset = range.addr.wrapping_sub(region.ram().guest_addr);
        let slice = region.volatile(offset, range.len).ok_or(OutOfRange { range, available })?;
        Ok(GuestSlice::new(slice, range.addr, region.rights(), &self.log))
    }

    /// As [`check`](Self::check), for memory that is used again and again (a virtqueue's rings): the
    /// window keeps the mapping alive even when the memory table changes.
    pub fn hold(&self, range: GuestRange) -> Result<GuestWindow, OutOfRange> {
        self.check(range)?;
        Ok(GuestWindow::new(self.find(range)?.clone(), range, Arc::clone(&self.log)))
    }

    /// A range that may cross from one region into the next, as its pieces in order. Ends after the
    /// first error. An empty range has no pieces.
    pub fn pieces(
        &self,
        range: GuestRange,
    ) -> impl Iterator<Item = Result<GuestSlice<'_>, OutOfRange>> {
        let mut rest = range;
        std::iter::from_fn(move || {
            if rest.len == 0 {
                return None;
            }
            let available = match self.find(rest) {
                Ok(region) => region.bytes_from(rest.addr).unwrap_or(0).min(rest.len),
                Err(error) => {
                    rest.len = 0;
                    return Some(Err(error));
                }
            };
            let piece = GuestRange::new(rest.addr, available);
            // A region's end fits 64 bits, so this does not wrap; if it did, the next look would fail.
            rest = GuestRange::new(rest.addr.wrapping_add(available), rest.len - available);
            Some(self.check(piece))
        })
    }

    /// From now on, what is written through this memory, its clones and its windows is marked in `pages`;
    /// `None`: nowhere.
    pub fn log_writes(&self, pages: Option<Arc<WrittenPages>>) {
        self.log.set(pages);
    }

    /// The log of written pages, if there is one.
    pub fn written(&self) -> Option<Arc<WrittenPages>> {
        self.log.get()
    }

    fn find(&self, range: GuestRange) -> Result<&MappedRegion, OutOfRange> {
        let found = self.regions.find_region(GuestAddress(range.addr));
        found.ok_or(OutOfRange { range, available: 0 })
    }

    /// The regions, ascending by guest address.
    pub fn regions(&self) -> impl Iterator<Item = &MappedRegion> {
        self.regions.iter()
    }

    /// For code of the `vm-memory` family (kernel loader, virtio queues). It knows nothing of rights (a
    /// store into read-only memory is a SIGSEGV) and nothing of the log.
    pub fn inner(&self) -> &MappedRegions {
        &self.regions
    }
}

#[cfg(test)]
mod tests;
