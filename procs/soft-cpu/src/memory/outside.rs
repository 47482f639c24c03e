//! What an instruction needs from outside the processor: ports, and addresses where no RAM is.
//!
//! An instruction that needs the outside is abandoned at that access with nothing changed, the request
//! becomes an exit, and the instruction is started again. Its accesses up to there are then answered
//! from the [`Replay`], in the same order, so that no device sees an access twice.
//!
//! A string instruction has completed iterations behind it when it needs the outside again: it says so
//! by [`Replay::commit`] after each.

/// One access that leaves the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// `in`.
    PortRead {
        /// The port.
        port: u16,
        /// 1, 2 or 4.
        width: u8,
    },
    /// `out`.
    PortWrite {
        /// The port.
        port: u16,
        /// 1, 2 or 4.
        width: u8,
        /// What is written, in the low bytes.
        value: u64,
    },
    /// A load where no RAM is.
    MemoryRead {
        /// Guest-physical address.
        address: u64,
        /// 1 to 8.
        width: u8,
    },
    /// A store where no RAM is.
    MemoryWrite {
        /// Guest-physical address.
        address: u64,
        /// 1 to 8.
        width: u8,
        /// What is written, in the low bytes.
        value: u64,
    },
}

/// The accesses of the instruction at RIP that were already answered.
#[derive(Debug, Default)]
pub struct Replay {
    answered: Vec<(Outside, u64)>,
    /// How many of them the present attempt has used.
    used: usize,
    /// The access that waits for its answer.
    waiting: Option<Outside>,
}

impl Replay {
    /// The answer to `request` if there is one, or else it is what the processor now waits for.
    pub(crate) fn ask(&mut self, request: Outside) -> Option<u64> {
        match self.answered.get(self.used) {
            Some((asked, answer)) if *asked == request => {
                self.used += 1;
                Some(*answer)
            }
            _ => {
                // Other processors may have changed what this instruction does: the rest is stale.
                self.answered.truncate(self.used);
                self.waiting = Some(request);
                None
            }
        }
    }

    /// What the processor waits for.
    pub fn waiting(&self) -> Option<Outside> {
        self.waiting
    }

    /// The answer to that (for writes, any value).
    pub fn answer(&mut self, value: u64) {
        if let Some(request) = self.waiting.take() {
            self.answered.push((request, value));
        }
        self.used = 0;
    }

    /// Whether an instruction is to be started again with answers.
    pub fn is_pending(&self) -> bool {
        !self.answered.is_empty()
    }

    /// The accesses used so far belong to work that is done: an iteration of a string instruction, or a
    /// whole instruction.
    #[inline]
    pub fn commit(&mut self) {
        if self.used != 0 {
            self.answered.drain(..self.used);
            self.used = 0;
        }
    }

    /// The instruction is done or abandoned for good.
    pub fn clear(&mut self) {
        self.answered.clear();
        self.used = 0;
        self.waiting = None;
    }
}
