//! An address space full of devices: ports, or guest-physical addresses where no RAM is.
//!
//! vCPU threads dispatch here. An access belongs to the device that claims its *first* byte, whatever
//! its width; a device therefore sees accesses that run past its end and has to cope. No lock of the
//! bus is held while a device runs, so a device may claim and release ranges (a BAR that moves).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Something that claims a range of a bus.
///
/// Called by several vCPU threads at once. `offset` counts from the start of the claimed range;
/// `data` has any length from 1 to 8.
pub trait BusDevice: Send + Sync {
    /// Fills in `data`, which holds ones when the call is made: what a device does not answer reads as
    /// ones.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Takes what the guest wrote.
    fn write(&self, offset: u64, data: &[u8]);
}

/// A non-empty range of addresses, its last one included (so that it may end at 2⁶⁴−1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusRange {
    first: u64,
    last: u64,
}

impl BusRange {
    /// `len` addresses from `first`; `None` if that is empty or runs past the end of all addresses.
    pub fn new(first: u64, len: u64) -> Option<Self> {
        let last = first.checked_add(len.checked_sub(1)?)?;
        Some(Self { first, last })
    }

    /// The first address.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The last address.
    pub fn last(self) -> u64 {
        self.last
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The range is somebody else's already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bus range {:#x}..={:#x} is taken", .0.first, .0.last)]
pub struct RangeTaken(pub BusRange);

struct Claim {
    range: BusRange,
    device: Arc<dyn BusDevice>,
}

/// The devices of one address space.
#[derive(Default)]
pub struct Bus {
    /// By first address; claims never overlap.
    claims: RwLock<BTreeMap<u64, Claim>>,
}

impl Bus {
    /// A bus with nothing on it.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Gives `range` to `device`.
    pub fn claim(&self, range: BusRange, device: Arc<dyn BusDevice>) -> Result<(), RangeTaken> {
        let mut claims = self.claims.write().unwrap_or_else(PoisonError::into_inner);
        let below = claims.range(..=range.last).next_back();
        if below.is_some_and(|(_, claim)| claim.range.overlaps(range)) {
            return Err(RangeTaken(range));
        }
        claims.insert(range.first, Claim { range, device });
        Ok(())
    }

    /// Takes `range` back from whoever claimed exactly it.
    pub fn release(&self, range: BusRange) {
        let mut claims = self.claims.write().unwrap_or_else(PoisonError::into_inner);
        if claims.get(&range.first).is_some_and(|claim| claim.range == range) {
            claims.remove(&range.first);
        }
    }

    /// A guest's read. What nobody answers reads as ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((offset, device)) = self.find(address) {
            device.read(offset, data);
        }
    }

    /// A guest's write. What nobody takes is lost.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address) {
            device.write(offset, data);
        }
    }

    fn find(&self, address: u64) -> Option<(u64, Arc<dyn BusDevice>)> {
        let claims = self.claims.read().unwrap_or_else(PoisonError::into_inner);
        let (first, claim) = claims.range(..=address).next_back()?;
        (address <= claim.range.last).then(|| (address - first, Arc::clone(&claim.device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::hold;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Probe(Mutex<Vec<(u64, Vec<u8>)>>);

    impl BusDevice for Probe {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data[0] = offset as u8;
        }
        fn write(&self, offset: u64, data: &[u8]) {
            hold(&self.0).push((offset, data.to_vec()));
        }
    }

    fn range(first: u64, len: u64) -> BusRange {
        BusRange::new(first, len).unwrap()
    }

    #[test]
    fn an_access_belongs_to_the_device_that_claims_its_first_byte() {
        let bus = Bus::new();
        let (low, high) = (Arc::new(Probe::default()), Arc::new(Probe::default()));
        bus.claim(range(0xcf8, 1), low.clone()).unwrap();
        bus.claim(range(0xcf9, 1), high.clone()).unwrap();
        bus.write(0xcf8, &[1, 2, 3, 4]);
        bus.write(0xcf9, &[6]);
        assert_eq!(*hold(&low.0), [(0, vec![1, 2, 3, 4])]);
        assert_eq!(*hold(&high.0), [(0, vec![6])]);
    }

    #[test]
    fn what_nobody_claims_reads_as_ones() {
        let bus = Bus::new();
        let mut data = [0; 4];
        bus.read(0x1234, &mut data);
        assert_eq!(data, [0xff; 4]);
    }

    #[test]
    fn what_a_device_does_not_fill_in_reads_as_ones() {
        let bus = Bus::new();
        bus.claim(range(8, 8), Arc::new(Probe::default())).unwrap();
        let mut data = [0; 2];
        bus.read(11, &mut data);
        assert_eq!(data, [3, 0xff]);
    }

    #[test]
    fn overlapping_claims_are_refused_on_either_side() {
        let bus = Bus::new();
        let device = Arc::new(Probe::default());
        bus.claim(range(100, 10), device.clone()).unwrap();
        for taken in [range(95, 6), range(109, 1), range(102, 2), range(50, 1000)] {
            assert_eq!(bus.claim(taken, device.clone()), Err(RangeTaken(taken)));
        }
        bus.claim(range(90, 10), device.clone()).unwrap();
        bus.claim(range(110, 1), device).unwrap();
    }

    #[test]
    fn only_the_exact_range_is_released() {
        let bus = Bus::new();
        let device = Arc::new(Probe::default());
        bus.claim(range(100, 10), device.clone()).unwrap();
        bus.release(range(100, 9));
        assert!(bus.claim(range(100, 1), device.clone()).is_err());
        bus.release(range(100, 10));
        bus.claim(range(100, 1), device).unwrap();
    }

    #[test]
    fn a_range_may_end_at_the_last_address_but_not_wrap() {
        assert!(BusRange::new(u64::MAX, 1).is_some());
        assert!(BusRange::new(u64::MAX, 2).is_none());
        assert!(BusRange::new(0, 0).is_none());
    }
}
