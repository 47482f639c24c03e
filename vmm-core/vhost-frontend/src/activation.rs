//! What the driver has set up when it says DRIVER_OK. Frozen from then on until the device is reset.

/// Where a split ring lies; guest-physical addresses, already checked to be in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRings {
    /// Descriptors, a power of two.
    pub size: u16,
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring.
    pub available: u64,
    /// The used ring.
    pub used: u64,
}

/// A device that the driver has set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// What the driver acknowledged, a part of what was offered.
    pub features: u64,
    /// Each queue of the device; `None`: the driver does not use it.
    pub queues: Vec<Option<QueueRings>>,
}

impl Activation {
    /// The queues in use, with their numbers.
    pub(crate) fn used(&self) -> impl Iterator<Item = (u16, QueueRings)> + '_ {
        let numbered = (0..).zip(&self.queues);
        numbered.filter_map(|(index, rings)| Some((index, (*rings)?)))
    }
}
