//! One request as the driver described it, after it was copied and checked.

use bulkhead_memory::GuestMemory;

use crate::PackedDescriptor;
use crate::fault::QueueFault;
use crate::indirect::Table;
use crate::scatter::Scatter;

/// Pieces and ring descriptors whose room a chain keeps for the next request; a rare longer request
/// gives the surplus back.
const KEPT: usize = 128;

/// A descriptor chain. Made once per place of a request and filled again and again.
#[derive(Debug, Default)]
pub struct Chain {
    /// What the device may read, in order.
    pub readable: Scatter,
    /// What the device may write, in order.
    pub writable: Scatter,
    pub(crate) id: u16,
    pub(crate) slots: u16,
    pub(crate) ring: Vec<PackedDescriptor>,
    /// Room for the copy of an indirect table.
    pub(crate) table: Table,
}

impl Chain {
    /// By which name it is given back: the head's index (split) or the buffer's id (packed).
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Places it takes in the ring: 1 in a split ring, the chain's length in a packed one.
    pub fn slots(&self) -> u16 {
        self.slots
    }

    /// The descriptors that lay in a packed ring itself (for the in-flight table); none for split.
    pub fn ring(&self) -> &[PackedDescriptor] {
        &self.ring
    }

    /// Forgets the request.
    pub fn clear(&mut self) {
        let long = self.readable.ranges().len().max(self.writable.ranges().len());
        match long.max(self.ring.len()) {
            0..=KEPT => {
                self.readable.clear();
                self.writable.clear();
                self.ring.clear();
            }
            _ => {
                self.readable.shrink(KEPT);
                self.writable.shrink(KEPT);
                self.ring.clear();
                self.ring.shrink_to(KEPT);
                self.table.truncate(KEPT);
                self.table.shrink_to(KEPT);
            }
        }
        (self.id, self.slots) = (0, 0);
    }

    /// Whether every byte still lies in guest memory.
    pub fn lies_in(&self, memory: &GuestMemory) -> Result<(), QueueFault> {
        for range in self.readable.ranges().iter().chain(self.writable.ranges()) {
            crate::assemble::check_buffer(memory, *range)?;
        }
        Ok(())
    }
}
