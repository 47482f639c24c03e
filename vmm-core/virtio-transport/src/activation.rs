//! What passes between the driver's side and the event loop.

/// Where a split ring lies. Checked to be in guest memory when the driver enabled the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRings {
    /// Descriptors, a power of two.
    pub size: u16,
    /// Guest address of the descriptor table.
    pub descriptors: u64,
    /// Guest address of the available ring (driver area).
    pub available: u64,
    /// Guest address of the used ring (device area).
    pub used: u64,
}

/// A device as its driver has set it up, frozen until it is reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// What the driver acknowledged of what was offered.
    pub features: u64,
    /// Each queue of the device; `None`: the driver did not enable it.
    pub queues: Vec<Option<QueueRings>>,
}

impl Activation {
    /// The enabled queues, with their numbers.
    pub fn enabled(&self) -> impl Iterator<Item = (u16, QueueRings)> + '_ {
        (0..).zip(&self.queues).filter_map(|(index, rings)| Some((index, (*rings)?)))
    }
}

/// What a driver wants done by the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// Run the queues.
    Run(Activation),
    /// Finish all requests and run no queue any more; to be answered by
    /// [`VirtioFunction::stopped`](crate::VirtioFunction::stopped).
    Stop,
}
