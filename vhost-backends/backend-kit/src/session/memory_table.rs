//! The frontend's memory table: what is mapped, and by which addresses it names its rings.
//!
//! Rings are named by the frontend's own addresses, everything in them by guest addresses.

use std::os::fd::{AsFd, OwnedFd};

use bulkhead_memory::{GuestMemory, MapError, RamRegion, Rights};

use crate::wire::Region;

/// Most regions. QEMU needs one for each memory module.
pub(super) const MOST_REGIONS: usize = 64;

/// Mapped guest memory and its second set of addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryTable {
    regions: Vec<Region>,
    memory: GuestMemory,
}

impl MemoryTable {
    pub(super) fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// A table of these regions.
    pub(super) fn map(regions: Vec<(Region, OwnedFd)>) -> Result<Self, MapError> {
        let named = regions.iter().map(|(region, _)| *region).collect();
        let mapped = regions.into_iter().map(|(region, fd)| (ram(region), fd)).collect();
        let memory = GuestMemory::map_regions(mapped, Rights::ReadWrite)?;
        Ok(Self { regions: named, memory })
    }

    /// This table and one region more.
    pub(super) fn with(&self, region: Region, fd: &OwnedFd) -> Result<Self, MapError> {
        let memory = self.memory.with_region(ram(region), fd.as_fd(), Rights::ReadWrite)?;
        let mut regions = self.regions.clone();
        regions.push(region);
        Ok(Self { regions, memory })
    }

    /// This table without one region.
    pub(super) fn without(&self, region: Region) -> Result<Self, MapError> {
        let memory = self.memory.without_region(region.guest_addr, region.len)?;
        let mut regions = self.regions.clone();
        regions.retain(|other| (other.guest_addr, other.len) != (region.guest_addr, region.len));
        Ok(Self { regions, memory })
    }

    pub(super) fn is_full(&self) -> bool {
        self.regions.len() >= MOST_REGIONS
    }

    /// The guest address that the frontend calls `user_addr`.
    pub(super) fn translate(&self, user_addr: u64) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = user_addr.checked_sub(region.user_addr)?;
            (offset < region.len).then(|| region.guest_addr.checked_add(offset))?
        })
    }
}

fn ram(region: Region) -> RamRegion {
    let Region { guest_addr, len, file_offset, .. } = region;
    RamRegion { guest_addr, len, file_offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(guest_addr: u64, user_addr: u64) -> (Region, OwnedFd) {
        let fd = bulkhead_sys::memfd::create_sealed("guest", 8192).unwrap();
        (Region { guest_addr, len: 8192, user_addr, file_offset: 0 }, fd)
    }

    #[test]
    fn user_addresses_are_translated_within_their_region() {
        let table =
            MemoryTable::map(vec![region(0, 0x7000_0000), region(0x10_0000, 0x1000)]).unwrap();
        assert_eq!(table.translate(0x7000_0000), Some(0));
        assert_eq!(table.translate(0x2fff), Some(0x10_1fff));
        for outside in [0, 0xfff, 0x3000, 0x6fff_ffff, 0x7000_2000, u64::MAX] {
            assert_eq!(table.translate(outside), None);
        }
    }

    #[test]
    fn regions_come_and_go_and_a_refused_one_changes_nothing() {
        let (first, fd) = region(0, 0x1000);
        let table = MemoryTable::default().with(first, &fd).unwrap();
        assert!(table.with(first, &fd).is_err(), "it overlaps itself");
        let (second, fd) = region(0x10_0000, 0x9000);
        let both = table.with(second, &fd).unwrap();
        assert_eq!(both.translate(0x9000), Some(0x10_0000));
        let rest = both.without(first).unwrap();
        assert_eq!((rest.translate(0x1000), rest.translate(0x9000)), (None, Some(0x10_0000)));
        assert!(rest.without(first).is_err());
    }
}
