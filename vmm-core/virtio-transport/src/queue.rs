//! One queue's registers, and the check that its rings lie in guest memory.

use std::sync::Arc;

use bulkhead_machine::pci::NO_VECTOR;
use bulkhead_memory::{GuestMemory, GuestRange};
use bulkhead_sys::eventfd::Doorbell;

use crate::activation::QueueRings;

/// Kick and call of a queue.
#[derive(Debug, Clone)]
pub struct QueueBells {
    /// Rung by the driver, through the engine.
    pub kick: Arc<Doorbell>,
    /// Rung by the backend, an interrupt through the engine.
    pub call: Arc<Doorbell>,
}

/// What the driver says of a queue. Nothing of it is believed before it is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueRegisters {
    pub size: u16,
    pub vector: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
    /// The proof, from the moment the queue is enabled.
    pub enabled: Option<QueueRings>,
}

impl QueueRegisters {
    /// As after a reset: the greatest size, no vector, no addresses.
    pub fn new(greatest_size: u16) -> Self {
        let vector = NO_VECTOR;
        Self { size: greatest_size, vector, descriptors: 0, available: 0, used: 0, enabled: None }
    }

    /// Takes a size that a queue can have; others change nothing.
    pub fn set_size(&mut self, size: u16, greatest: u16) {
        if size.is_power_of_two() && size <= greatest {
            self.size = size;
        }
    }

    /// Enables the queue if its rings are aligned and lie in guest memory (2.7); otherwise it stays off.
    pub fn enable(&mut self, memory: &GuestMemory) {
        if self.enabled.is_none() && self.is_possible(memory) {
            let Self { size, descriptors, available, used, .. } = *self;
            self.enabled = Some(QueueRings { size, descriptors, available, used });
        }
    }

    /// Bytes and alignment as 2.7 gives them; both rings with the field for event indices.
    fn is_possible(&self, memory: &GuestMemory) -> bool {
        let size = u64::from(self.size);
        let parts = [
            (self.descriptors, 16 * size, 16),
            (self.available, 6 + 2 * size, 2),
            (self.used, 6 + 8 * size, 4),
        ];
        parts.into_iter().all(|(addr, len, align)| {
            addr.is_multiple_of(align) && memory.check(GuestRange::new(addr, len)).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_memory::{Grant, RamLayout, Rights};

    const RAM: u64 = 1 << 20;

    fn memory() -> GuestMemory {
        let layout = RamLayout::new(RAM).unwrap();
        let fd = bulkhead_sys::memfd::create_sealed("ram", RAM).unwrap();
        Grant::whole(&layout, Rights::ReadWrite).map(&fd).unwrap()
    }

    fn enabled(change: impl FnOnce(&mut QueueRegisters)) -> Option<QueueRings> {
        let mut queue = QueueRegisters::new(256);
        (queue.descriptors, queue.available, queue.used) = (0x1000, 0x2000, 0x3000);
        change(&mut queue);
        queue.enable(&memory());
        queue.enabled
    }

    #[test]
    fn rings_in_guest_memory_are_enabled() {
        let rings = QueueRings { size: 256, descriptors: 0x1000, available: 0x2000, used: 0x3000 };
        assert_eq!(enabled(|_| {}), Some(rings));
    }

    #[test]
    fn rings_that_end_with_memory_are_enabled_and_a_byte_further_not() {
        let len = 6 + 8 * 256;
        let last = (RAM - len) & !3;
        assert!(enabled(|queue| queue.used = last).is_some());
        assert!(enabled(|queue| queue.used = last + 4).is_none());
    }

    #[test]
    fn misaligned_and_impossible_addresses_are_not_enabled() {
        assert!(enabled(|queue| queue.descriptors += 8).is_none());
        assert!(enabled(|queue| queue.available += 1).is_none());
        assert!(enabled(|queue| queue.used += 2).is_none());
        for addr in [RAM, u64::MAX - 15, !0xfff, 1 << 63] {
            assert!(enabled(|queue| queue.descriptors = addr & !15).is_none());
            assert!(enabled(|queue| queue.available = addr & !15).is_none());
            assert!(enabled(|queue| queue.used = addr & !15).is_none());
        }
    }

    #[test]
    fn sizes_are_powers_of_two_up_to_the_greatest() {
        let mut queue = QueueRegisters::new(256);
        for (size, becomes) in [(128, 128), (0, 128), (100, 128), (512, 128), (0x8000, 128), (1, 1)]
        {
            queue.set_size(size, 256);
            assert_eq!(queue.size, becomes, "{size}");
        }
    }
}
