//! The MSI-X table of one function, and the interrupts that go through it.
//!
//! Called by the function: guest accesses to its table and pending bits, and which eventfd belongs to
//! which vector. A vector is *armed* while MSI-X is enabled and neither the function nor the vector is
//! masked. Only an armed vector's eventfds are connected to the engine: what a backend signals
//! meanwhile stays in the eventfd's counter, shows as a pending bit, and is delivered on unmasking.
//!
//! ```text
//!             enable, unmask                    call rings: interrupt
//!   disarmed ────────────────► armed            (engine, not this process)
//!            ◄────────────────
//!             disable, mask, reset              call rings while disarmed: pending
//! ```
//!
//! Routes are changed when a vector is armed, not at each of the three writes that fill an entry in,
//! and all vectors that one control word arms go in one batch: the kernel waits for a grace period at
//! every change.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use bulkhead_hypervisor::{EngineError, Gsi, Msi, Vm};
use bulkhead_sys::eventfd::Doorbell;

use super::config::BarIndex;
use crate::complaint;
use crate::hold::hold;

/// The vector number that means "no interrupt" (virtio 1.2, 4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xffff;

/// Bytes of one table entry.
const ENTRY_LEN: u64 = 16;
const CONTROL_ENABLE: u16 = 1 << 15;
const CONTROL_FUNCTION_MASK: u16 = 1 << 14;
/// The mask bit of an entry's last word; the other bits of that word are reserved.
const VECTOR_MASKED: u32 = 1;

/// Where in a BAR the table and the pending bits lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsixPlacement {
    /// Entries, 1 to 2048.
    pub vectors: u16,
    /// The BAR that both lie in.
    pub bar: BarIndex,
    /// Offset of the table, a multiple of 8.
    pub table_offset: u32,
    /// Offset of the pending bits, a multiple of 8.
    pub pending_offset: u32,
}

/// The table.
pub struct MsixTable {
    vm: Arc<dyn Vm>,
    state: Mutex<State>,
}

struct State {
    enabled: bool,
    masked: bool,
    vectors: Vec<Vector>,
}

struct Vector {
    gsi: Gsi,
    /// Address low, address high, data, control: as the guest wrote them.
    entry: [u32; 4],
    /// What the engine's route says.
    route: Option<Msi>,
    armed: bool,
    /// Signalled by this process while disarmed.
    pending: bool,
    calls: Vec<Arc<Doorbell>>,
}

impl Vector {
    fn new(gsi: Gsi) -> Self {
        let entry = [0, 0, 0, VECTOR_MASKED];
        Self { gsi, entry, route: None, armed: false, pending: false, calls: Vec::new() }
    }

    fn message(&self) -> Msi {
        let [low, high, data, _] = self.entry;
        Msi { address: u64::from(high) << 32 | u64::from(low), data }
    }

    fn is_pending(&self) -> bool {
        !self.armed && (self.pending || self.calls.iter().any(|call| call.is_rung()))
    }
}

impl MsixTable {
    /// A disabled table of `vectors` masked entries, each with an interrupt number of its own.
    pub fn new(vm: Arc<dyn Vm>, vectors: u16) -> Result<Self, EngineError> {
        let gsis = (0..vectors).map(|_| vm.allocate_gsi()).collect::<Result<Vec<_>, _>>()?;
        let vectors = gsis.into_iter().map(Vector::new).collect();
        let state = Mutex::new(State { enabled: false, masked: false, vectors });
        Ok(Self { vm, state })
    }

    /// Number of vectors.
    pub fn len(&self) -> u16 {
        u16::try_from(hold(&self.state).vectors.len()).unwrap_or(u16::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From now on signals on `call` are interrupts of `vector`. [`NO_VECTOR`] and vectors that do not
    /// exist are ignored.
    pub fn connect(&self, vector: u16, call: &Arc<Doorbell>) {
        let mut state = hold(&self.state);
        let Some(vector) = state.vectors.get_mut(usize::from(vector)) else { return };
        if vector.armed {
            complain(self.vm.connect_irqfd(call.as_fd(), vector.gsi));
        }
        vector.calls.push(Arc::clone(call));
    }

    /// Undoes [`MsixTable::connect`].
    pub fn disconnect(&self, vector: u16, call: &Arc<Doorbell>) {
        let mut state = hold(&self.state);
        let Some(vector) = state.vectors.get_mut(usize::from(vector)) else { return };
        let Some(at) = vector.calls.iter().position(|other| Arc::ptr_eq(other, call)) else {
            return;
        };
        let call = vector.calls.swap_remove(at);
        if vector.armed {
            complain(self.vm.disconnect_irqfd(call.as_fd(), vector.gsi));
        }
    }

    /// An interrupt of this process's own (a configuration change). Remembered while disarmed.
    pub fn signal(&self, vector: u16) {
        let mut state = hold(&self.state);
        let Some(vector) = state.vectors.get_mut(usize::from(vector)) else { return };
        if vector.armed {
            complain(self.vm.signal_msi(vector.message()));
        } else {
            vector.pending = true;
        }
    }

    /// The guest's read of the table. Entries that do not exist read as zero.
    pub fn table_read(&self, offset: u64, data: &mut [u8]) {
        let state = hold(&self.state);
        read_words(offset, data, |word| {
            let vector = state.vectors.get(usize::try_from(word / 4).ok()?)?;
            vector.entry.get(word as usize % 4).copied()
        });
    }

    /// The guest's write to the table: 4 or 8 bytes, aligned (PCI 3.0, 6.8.3.2); others are ignored.
    pub fn table_write(&self, offset: u64, data: &[u8]) {
        let len = data.len() as u64;
        if !matches!(len, 4 | 8) || !offset.is_multiple_of(len) {
            return;
        }
        let mut state = hold(&self.state);
        let Some(vector) =
            usize::try_from(offset / ENTRY_LEN).ok().and_then(|at| state.vectors.get_mut(at))
        else {
            return;
        };
        let first = (offset % ENTRY_LEN / 4) as usize;
        for (word, bytes) in vector.entry.iter_mut().skip(first).zip(data.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        vector.entry[3] &= VECTOR_MASKED;
        self.settle(&mut state);
    }

    /// The guest's read of the pending bits.
    pub fn pending_read(&self, offset: u64, data: &mut [u8]) {
        let state = hold(&self.state);
        read_words(offset, data, |word| {
            let first = usize::try_from(word).ok()?.checked_mul(32)?;
            let bits = state.vectors.iter().skip(first).take(32).enumerate();
            Some(bits.fold(0, |bits, (at, vector)| bits | u32::from(vector.is_pending()) << at))
        });
    }

    /// The control word of the capability changed.
    pub(super) fn set_control(&self, control: u16) {
        let mut state = hold(&self.state);
        let (enabled, masked) =
            (control & CONTROL_ENABLE != 0, control & CONTROL_FUNCTION_MASK != 0);
        if (state.enabled, state.masked) != (enabled, masked) {
            (state.enabled, state.masked) = (enabled, masked);
            self.settle(&mut state);
        }
    }

    /// As at power-on, except that eventfds stay where their owner connected them.
    pub fn reset(&self) {
        let mut state = hold(&self.state);
        (state.enabled, state.masked) = (false, false);
        for vector in &mut state.vectors {
            vector.entry = [0, 0, 0, VECTOR_MASKED];
            vector.pending = false;
        }
        self.settle(&mut state);
    }

    /// Brings routes and connections in line with what the guest wrote.
    fn settle(&self, state: &mut State) {
        let open = state.enabled && !state.masked;
        let mut routes = Vec::new();
        for vector in &mut state.vectors {
            let armed = open && vector.entry[3] & VECTOR_MASKED == 0;
            let message = vector.message();
            if armed && vector.route != Some(message) {
                routes.push((vector.gsi, Some(message)));
                vector.route = Some(message);
            }
        }
        if !routes.is_empty() {
            complain(self.vm.set_routes(&routes));
        }
        for vector in &mut state.vectors {
            let armed = open && vector.entry[3] & VECTOR_MASKED == 0;
            if armed != vector.armed {
                self.arm(vector, armed);
            }
        }
    }

    fn arm(&self, vector: &mut Vector, armed: bool) {
        vector.armed = armed;
        for call in &vector.calls {
            let call = call.as_fd();
            complain(match armed {
                true => self.vm.connect_irqfd(call, vector.gsi),
                false => self.vm.disconnect_irqfd(call, vector.gsi),
            });
        }
        if armed && std::mem::take(&mut vector.pending) {
            complain(self.vm.signal_msi(vector.message()));
        }
    }
}

impl Drop for MsixTable {
    fn drop(&mut self) {
        self.reset();
        for vector in &hold(&self.state).vectors {
            self.vm.release_gsi(vector.gsi);
        }
    }
}

/// Reads bytes out of an array of little-endian words; words that do not exist are zero.
fn read_words(offset: u64, data: &mut [u8], word: impl Fn(u64) -> Option<u32>) {
    for (index, byte) in data.iter_mut().enumerate() {
        let at = offset.wrapping_add(index as u64);
        let bytes = word(at / 4).unwrap_or(0).to_le_bytes();
        *byte = bytes[(at % 4) as usize];
    }
}

fn complain(result: Result<(), EngineError>) {
    complaint::lost("an interrupt of a PCI function", result);
}

#[cfg(test)]
mod tests;
