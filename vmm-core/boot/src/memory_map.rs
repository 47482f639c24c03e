//! The memory map that a guest is given (E820): what is RAM, what is taken.

use bulkhead_machine::layout::ECAM;
use bulkhead_machine::pci::host::ECAM_LEN;
use bulkhead_memory::{HIGH_RAM_START, RamLayout};

use crate::places::{CONVENTIONAL_END, HIGH_MEMORY};

/// What a range is for. The numbers are those of E820 and of PVH's map alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Ram = 1,
    Reserved = 2,
}

/// One line of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapEntry {
    pub address: u64,
    pub len: u64,
    pub what: Use,
}

/// The map of a machine whose low RAM is at least [`crate::places::LEAST_RAM`]. Ascending.
pub(crate) fn of(layout: &RamLayout) -> Vec<MapEntry> {
    let entry = |address, len, what| MapEntry { address, len, what };
    let mut map = vec![
        entry(0, CONVENTIONAL_END, Use::Ram),
        entry(CONVENTIONAL_END, HIGH_MEMORY - CONVENTIONAL_END, Use::Reserved),
        entry(HIGH_MEMORY, layout.low_len() - HIGH_MEMORY, Use::Ram),
        // Guests use the configuration window only if it is reserved here or in ACPI: it is in both.
        entry(ECAM, ECAM_LEN, Use::Reserved),
    ];
    if layout.high_len() > 0 {
        map.push(entry(HIGH_RAM_START, layout.high_len(), Use::Ram));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(map: &[MapEntry]) -> u64 {
        map.iter().filter(|entry| entry.what == Use::Ram).map(|entry| entry.len).sum()
    }

    #[test]
    fn all_ram_but_the_end_of_the_first_mib_is_offered() {
        for total in [2u64 << 20, 512 << 20, 3 << 30, 5 << 30] {
            let map = of(&RamLayout::new(total).unwrap());
            assert_eq!(ram(&map), total - (HIGH_MEMORY - CONVENTIONAL_END));
        }
    }

    #[test]
    fn entries_ascend_and_do_not_overlap() {
        let map = of(&RamLayout::new(5 << 30).unwrap());
        assert!(map.windows(2).all(|pair| pair[0].address + pair[0].len <= pair[1].address));
        assert_eq!(map.last().unwrap().address, 4 << 30);
    }
}
