//! A grant: which guest memory a process may map, and for what. Written by the supervisor into a
//! plan, mapped by the process after its seal.

use std::os::fd::AsFd;

use crate::Rights;
use crate::layout::{RamLayout, RamRegion};
use crate::memory::{GuestMemory, MapError};

/// Regions of one memory object and the rights over them. The descriptor travels beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The regions, in any order.
    pub regions: Vec<RamRegion>,
    /// What they may be used for.
    pub rights: Rights,
}

impl Grant {
    /// All of a machine's RAM.
    pub fn whole(layout: &RamLayout, rights: Rights) -> Self {
        Self { regions: layout.regions.clone(), rights }
    }

    /// How long the memory object must be for this grant; `None` if a region's end overflows. Check
    /// it with `bulkhead_sys::memfd::verify_sealed` before mapping.
    pub fn object_len(&self) -> Option<u64> {
        let mut ends = self.regions.iter().map(|region| region.file_offset.checked_add(region.len));
        ends.try_fold(0, |longest: u64, end| Some(longest.max(end?)))
    }

    /// Maps what is granted. The descriptor may be closed afterwards.
    pub fn map(&self, fd: impl AsFd) -> Result<GuestMemory, MapError> {
        GuestMemory::map(fd.as_fd(), &self.regions, self.rights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_grant_needs_exactly_the_ram() {
        let layout = RamLayout::new(5 << 30).unwrap();
        assert_eq!(Grant::whole(&layout, Rights::ReadOnly).object_len(), Some(5 << 30));
    }

    #[test]
    fn a_region_that_ends_beyond_64_bits_has_no_length() {
        let region = RamRegion { guest_addr: 0, len: 4096, file_offset: u64::MAX };
        let grant = Grant { regions: vec![region], rights: Rights::ReadWrite };
        assert_eq!(grant.object_len(), None);
        assert!(grant.map(std::io::stdin()).is_err());
    }
}
