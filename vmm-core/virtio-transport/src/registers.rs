//! All registers of a function, behind one lock, and what a write to them sets in motion.
//!
//! Effects beyond the registers (interrupt connections, demands) are returned to the caller, which
//! performs them.

use bulkhead_machine::pci::NO_VECTOR;
use bulkhead_memory::GuestMemory;

use crate::activation::{Activation, Demand};
use crate::features::Features;
use crate::queue::QueueRegisters;
use crate::status::{Status, Step};

/// What a driver can see and change.
pub(crate) struct Registers {
    pub memory: GuestMemory,
    pub features: Features,
    pub status: Status,
    pub config: Vec<u8>,
    pub generation: u8,
    pub config_vector: u16,
    pub queue_select: u16,
    pub queues: Vec<QueueRegisters>,
    pub greatest_size: u16,
    pub vectors: u16,
    /// Bit 1: the configuration has changed. Read and cleared by the driver (4.1.4.5).
    pub isr: u8,
    /// What the event loop has not seen yet.
    pub demand: Option<Demand>,
}

/// What the caller of a write has to do after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A queue's call moves from one vector to another.
    MoveCall {
        /// The queue.
        queue: u16,
        /// The vector it had.
        from: u16,
        /// The vector it has.
        to: u16,
    },
    /// The event loop has something to do.
    Demand,
    /// The device is reset: these vectors (of queues 0, 1, …) are no longer in use.
    Reset(Vec<u16>),
}

impl Registers {
    pub fn new(memory: GuestMemory, queues: u16, greatest_size: u16, config_len: usize) -> Self {
        Self {
            memory,
            features: Features::default(),
            status: Status::default(),
            config: vec![0; config_len],
            generation: 0,
            config_vector: NO_VECTOR,
            queue_select: 0,
            queues: vec![QueueRegisters::new(greatest_size); usize::from(queues)],
            greatest_size,
            vectors: queues + 1,
            isr: 0,
            demand: None,
        }
    }

    /// The selected queue, if there is one of that number.
    pub fn selected(&self) -> Option<&QueueRegisters> {
        self.queues.get(usize::from(self.queue_select))
    }

    /// The selected queue, as long as the driver may still arrange it.
    pub fn arranging(&mut self) -> Option<&mut QueueRegisters> {
        let queue = self.queues.get_mut(usize::from(self.queue_select))?;
        (self.status.is_arranging() && queue.enabled.is_none()).then_some(queue)
    }

    /// Enables the selected queue.
    pub fn enable_selected(&mut self) {
        let memory = self.memory.clone();
        if let Some(queue) = self.arranging() {
            queue.enable(&memory);
        }
    }

    /// A vector as it is remembered: one that does not exist is none.
    pub fn vector(&self, vector: u16) -> u16 {
        if vector < self.vectors { vector } else { NO_VECTOR }
    }

    /// The driver's write to the vector of the selected queue.
    pub fn set_queue_vector(&mut self, vector: u16) -> Option<Effect> {
        let to = self.vector(vector);
        let select = self.queue_select;
        let queue = self.queues.get_mut(usize::from(select))?;
        let from = std::mem::replace(&mut queue.vector, to);
        (from != to).then_some(Effect::MoveCall { queue: select, from, to })
    }

    /// The driver's write to the status.
    pub fn set_status(&mut self, value: u8) -> Option<Effect> {
        match self.status.write(value, self.features.are_acceptable()) {
            Step::Nothing => None,
            Step::Reset => Some(self.reset()),
            Step::Leave => Some(self.demand(Demand::Stop)),
            Step::Live => {
                let queues = self.queues.iter().map(|queue| queue.enabled).collect();
                let features = self.features.acknowledged;
                Some(self.demand(Demand::Run(Activation { features, queues })))
            }
        }
    }

    /// The machine is reset.
    pub fn machine_reset(&mut self) -> Option<Effect> {
        match self.status.leave() {
            Step::Reset => Some(self.reset()),
            Step::Leave => Some(self.demand(Demand::Stop)),
            Step::Nothing | Step::Live => None,
        }
    }

    fn demand(&mut self, demand: Demand) -> Effect {
        self.demand = Some(demand);
        Effect::Demand
    }

    /// The backend has let go. `None`: nobody waited for it.
    pub fn stopped(&mut self) -> Option<Effect> {
        self.status.is_leaving().then(|| self.reset())
    }

    fn reset(&mut self) -> Effect {
        let vectors = self.queues.iter().map(|queue| queue.vector).collect();
        self.queues.fill(QueueRegisters::new(self.greatest_size));
        self.features.reset();
        self.status = Status::default();
        self.config_vector = NO_VECTOR;
        self.queue_select = 0;
        self.isr = 0;
        self.demand = None;
        Effect::Reset(vectors)
    }

    /// Replaces the configuration space. The vector to signal, if the driver is to be told.
    pub fn change_config(&mut self, config: &[u8]) -> Option<u16> {
        if self.config == config {
            return None;
        }
        for (byte, new) in self.config.iter_mut().zip(config) {
            *byte = *new;
        }
        self.generation = self.generation.wrapping_add(1);
        self.notify_config()
    }

    /// Raises DEVICE_NEEDS_RESET. The vector to signal, if the driver is to be told.
    pub fn need_reset(&mut self) -> Option<u16> {
        if self.status.need_reset() { self.notify_config() } else { None }
    }

    fn notify_config(&mut self) -> Option<u16> {
        if !self.status.is_live() {
            return None;
        }
        self.isr |= 2;
        Some(self.config_vector)
    }
}
