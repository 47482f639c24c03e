//! What a debugger wants of a vCPU, and what the vCPU tells it, in words that no engine owns.
//!
//! Callers: `core` sets it while the vCPU is stopped, and hears of it by [`crate::Exit::Debug`].
//!
//! Law: the guest's own debug registers, `int3` and single-step stay the guest's. Where an engine has
//! nothing but the processor's debug registers to offer (KVM), the guest's are not in force as long as
//! the debugger has breakpoints set, and there are no more than [`crate::Vm::breakpoint_limit`].
//!
//! Addresses are linear, so that a breakpoint may be set before the guest has mapped anything there.

use serde::{Deserialize, Serialize};

/// What a vCPU shall stop for. The default: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestDebug {
    /// After one instruction. Interrupts wait meanwhile.
    pub steps: bool,
    /// Before the instruction at any of these linear addresses.
    pub code: Vec<u64>,
    /// After an instruction that touches one of these.
    pub data: Vec<Watch>,
}

/// Bytes that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Linear address of the first, a multiple of `len`.
    pub address: u64,
    /// How many: 1, 2, 4 or 8.
    pub len: u8,
    /// Reads count too, not only writes.
    pub reads: bool,
}

/// Why a vCPU stopped for its debugger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DebugStop {
    /// One instruction is done.
    Step,
    /// A breakpoint; the instruction there is not done.
    Code,
    /// A watched byte was touched; the instruction that did is done. The watch's address.
    Data(u64),
}

impl GuestDebug {
    /// Whether there is nothing to stop for.
    pub fn is_idle(&self) -> bool {
        !self.steps && self.code.is_empty() && self.data.is_empty()
    }
}

impl Watch {
    /// Whether a processor can watch it.
    pub fn is_sound(&self) -> bool {
        matches!(self.len, 1 | 2 | 4 | 8) && self.address.is_multiple_of(u64::from(self.len))
    }

    /// Whether an access touches it.
    pub fn meets(&self, linear: u64, size: u64, write: bool) -> bool {
        (write || self.reads)
            && linear < self.address.saturating_add(u64::from(self.len))
            && self.address < linear.saturating_add(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_met_by_what_touches_it() {
        let watch = Watch { address: 0x1004, len: 4, reads: false };
        assert!(watch.is_sound());
        assert!(watch.meets(0x1000, 8, true) && watch.meets(0x1007, 1, true));
        assert!(!watch.meets(0x1000, 4, true) && !watch.meets(0x1008, 8, true));
        assert!(!watch.meets(0x1004, 4, false));
        assert!(Watch { reads: true, ..watch }.meets(0x1004, 4, false));
        let last = Watch { address: u64::MAX - 7, len: 8, reads: true };
        assert!(last.is_sound() && last.meets(u64::MAX - 1, 1, false));
    }

    #[test]
    fn what_no_processor_watches_is_unsound() {
        for (address, len) in [(0, 0), (0, 3), (2, 4), (0, 16), (1, 2)] {
            assert!(!Watch { address, len, reads: false }.is_sound(), "{address} {len}");
        }
    }
}
