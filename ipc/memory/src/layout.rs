//! Where guest RAM lies: guest-physical addresses on one side, offsets in one memfd on the other.
//!
//! Used by the supervisor (to size the memfd and to write grants) and by core (memory slots, E820).
//! Law: the file offsets follow the guest addresses without a gap, so that the memfd is exactly as
//! long as the RAM.

/// End of RAM below 4 GiB. The last GiB under 4 GiB belongs to devices: ECAM, BARs, IOAPIC, LAPIC.
pub const LOW_RAM_END: u64 = 3 << 30;

/// Where RAM goes on above the hole.
pub const HIGH_RAM_START: u64 = 4 << 30;

/// Most RAM that still lies, with the hole, within 46 bits of physical address.
const MOST_RAM: u64 = (1 << 46) - (HIGH_RAM_START - LOW_RAM_END);

/// RAM is given in whole pages.
pub(crate) const PAGE: u64 = 4096;

/// One contiguous piece of guest RAM, all numbers in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RamRegion {
    /// Guest-physical address of the first byte.
    pub guest_addr: u64,
    /// Length.
    pub len: u64,
    /// Offset of the first byte in the memory object.
    pub file_offset: u64,
}

impl RamRegion {
    /// Guest-physical address behind the last byte; `None` if it does not fit 64 bits.
    pub fn guest_end(&self) -> Option<u64> {
        self.guest_addr.checked_add(self.len)
    }
}

/// A size that RAM cannot have. The user's spec is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// No RAM at all.
    #[error("a machine with 0 bytes of RAM cannot run")]
    Empty,
    /// Not a multiple of 4096.
    #[error("{0} bytes of RAM is not a multiple of 4096")]
    NotPages(u64),
    /// Beyond the physical address space.
    #[error("{0} bytes of RAM do not fit the guest's physical address space")]
    TooMuch(u64),
}

/// The RAM of one machine: at most 3 GiB at address 0, the rest from 4 GiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamLayout {
    /// One or two regions, ascending.
    pub regions: Vec<RamRegion>,
}

impl RamLayout {
    /// Lays out `total` bytes of RAM, a multiple of 4096.
    pub fn new(total: u64) -> Result<Self, LayoutError> {
        if total == 0 {
            return Err(LayoutError::Empty);
        }
        if !total.is_multiple_of(PAGE) {
            return Err(LayoutError::NotPages(total));
        }
        if total > MOST_RAM {
            return Err(LayoutError::TooMuch(total));
        }
        let low = total.min(LOW_RAM_END);
        let mut regions = vec![RamRegion { guest_addr: 0, len: low, file_offset: 0 }];
        if total > low {
            regions.push(RamRegion {
                guest_addr: HIGH_RAM_START,
                len: total - low,
                file_offset: low,
            });
        }
        Ok(Self { regions })
    }

    /// All RAM, which is also the length of the memfd behind it.
    pub fn total(&self) -> u64 {
        self.regions.iter().map(|region| region.len).sum()
    }

    /// RAM below the hole; it starts at guest address 0.
    pub fn low_len(&self) -> u64 {
        self.len_at(0)
    }

    /// RAM above the hole; it starts at [`HIGH_RAM_START`]. Zero in a small machine.
    pub fn high_len(&self) -> u64 {
        self.len_at(HIGH_RAM_START)
    }

    fn len_at(&self, guest_addr: u64) -> u64 {
        let found = self.regions.iter().find(|region| region.guest_addr == guest_addr);
        found.map_or(0, |region| region.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_has_one_region_at_zero() {
        let layout = RamLayout::new(512 << 20).unwrap();
        assert_eq!(layout.regions, [RamRegion { guest_addr: 0, len: 512 << 20, file_offset: 0 }]);
        assert_eq!((layout.low_len(), layout.high_len()), (512 << 20, 0));
    }

    #[test]
    fn exactly_three_gib_needs_no_second_region() {
        assert_eq!(RamLayout::new(LOW_RAM_END).unwrap().regions.len(), 1);
    }

    #[test]
    fn what_does_not_fit_below_the_hole_goes_above_it_without_a_gap_in_the_file() {
        let layout = RamLayout::new((5 << 30) + 4096).unwrap();
        let high = RamRegion { guest_addr: 4 << 30, len: (2 << 30) + 4096, file_offset: 3 << 30 };
        assert_eq!(layout.regions[1], high);
        assert_eq!(layout.total(), (5 << 30) + 4096);
        assert_eq!(layout.high_len(), (2 << 30) + 4096);
    }

    #[test]
    fn impossible_sizes_are_named() {
        assert_eq!(RamLayout::new(0), Err(LayoutError::Empty));
        assert_eq!(RamLayout::new(4097), Err(LayoutError::NotPages(4097)));
        let huge = !4095;
        assert_eq!(RamLayout::new(huge), Err(LayoutError::TooMuch(huge)));
    }
}
