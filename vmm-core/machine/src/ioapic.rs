//! The IOAPIC: 24 pins, each with an entry that says which message it sends.
//!
//! Devices drive pins through [`IrqLine`](crate::irq::IrqLine), the guest programs entries through two
//! registers in memory, and `core` reports ended interrupts. One model serves every engine: the local
//! APICs are the engine's, this is ours. Source: Intel 82093AA datasheet; EOI register from 82Fxxx
//! (version 0x20).
//!
//! ```text
//! level pin:   low ──assert──► message sent, remote IRR = 1 ──EOI──► remote IRR = 0
//!                                      ▲                                  │
//!                                      └────────── still asserted ────────┘
//! ```
//!
//! Each entry's message is mirrored into the engine's route of the same number: from those routes KVM
//! learns which vectors are level-triggered and reports their end. The mirror ignores the mask bit: a
//! guest may mask a pin between interrupt and EOI, and the EOI must be seen all the same. So nothing
//! may be connected to routes 0 to 23 directly; this model sends every message itself.

use std::sync::{Arc, Mutex};

use bulkhead_hypervisor::interrupt::IOAPIC_PINS;
use bulkhead_hypervisor::{Gsi, Msi, Vm};

use crate::bus::BusDevice;
use crate::complaint;
use crate::hold::hold;

const PINS: usize = IOAPIC_PINS as usize;

// Registers in memory.
const REGISTER_SELECT: u64 = 0x00;
const REGISTER_WINDOW: u64 = 0x10;
const REGISTER_EOI: u64 = 0x40;

// Registers behind the window.
const INDEX_ID: u8 = 0x00;
const INDEX_VERSION: u8 = 0x01;
const INDEX_ARBITRATION: u8 = 0x02;
const INDEX_TABLE: u8 = 0x10;

/// Version 0x20 has the EOI register; bits 16–23 hold the highest pin.
const VERSION: u32 = (IOAPIC_PINS as u32 - 1) << 16 | 0x20;

const VECTOR: u64 = 0xff;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Delivery status (bit 12) and remote IRR belong to the hardware.
const READ_ONLY: u64 = 1 << 12 | REMOTE_IRR;
/// Vector, modes, polarity, trigger, mask; destination in the top byte.
const WRITABLE: u64 = 0xff00_0000_0001_ffff & !READ_ONLY;

struct State {
    id: u32,
    selected: u8,
    entries: [u64; PINS],
    /// Levels of the wires, a bit each.
    lines: u32,
}

/// The controller.
pub struct Ioapic {
    vm: Arc<dyn Vm>,
    state: Mutex<State>,
}

impl Ioapic {
    /// As at power-on: every pin masked.
    pub fn new(vm: Arc<dyn Vm>) -> Arc<Self> {
        let state = State { id: 0, selected: 0, entries: [MASKED; PINS], lines: 0 };
        Arc::new(Self { vm, state: Mutex::new(state) })
    }

    /// As at power-on. The wires keep their levels: their devices are reset too.
    pub fn reset(&self) {
        let mut state = hold(&self.state);
        let lines = state.lines;
        *state = State { id: 0, selected: 0, entries: [MASKED; PINS], lines };
        let routes: Vec<_> = (0..PINS).map(|pin| self.route(&state, pin)).collect();
        self.send_routes(&routes);
    }

    /// A wire changes its level. Polarity is the guest's fiction: asserted is asserted.
    pub(crate) fn set_line(&self, pin: u8, asserted: bool) {
        let mut state = hold(&self.state);
        let bit = 1u32.checked_shl(u32::from(pin)).unwrap_or(0);
        let was = state.lines & bit != 0;
        state.lines = if asserted { state.lines | bit } else { state.lines & !bit };
        let level = state.entries.get(usize::from(pin)).is_some_and(|entry| entry & LEVEL != 0);
        if asserted && (level || !was) {
            self.service(&mut state, usize::from(pin));
        }
    }

    /// The guest ended an interrupt of this vector on some local APIC.
    pub fn end_of_interrupt(&self, vector: u8) {
        let mut state = hold(&self.state);
        for pin in 0..PINS {
            let entry = state.entries[pin];
            if entry & VECTOR == u64::from(vector) && entry & LEVEL != 0 && entry & REMOTE_IRR != 0
            {
                state.entries[pin] &= !REMOTE_IRR;
                self.service_level(&mut state, pin);
            }
        }
    }

    /// Sends the pin's message, unless it is masked or (level) its last one has not ended.
    fn service(&self, state: &mut State, pin: usize) {
        let Some(entry) = state.entries.get_mut(pin) else { return };
        if *entry & MASKED != 0 || *entry & (LEVEL | REMOTE_IRR) == LEVEL | REMOTE_IRR {
            return;
        }
        if *entry & LEVEL != 0 {
            *entry |= REMOTE_IRR;
        }
        complaint::lost("an interrupt of a pin", self.vm.signal_msi(message(*entry)));
    }

    fn service_level(&self, state: &mut State, pin: usize) {
        if state.entries[pin] & LEVEL != 0 && state.lines & 1 << pin != 0 {
            self.service(state, pin);
        }
    }

    fn write_window(&self, state: &mut State, value: u32) {
        match state.selected {
            INDEX_ID => state.id = value & 0x0f00_0000,
            index => {
                if let Some((pin, high)) = table_place(index) {
                    self.write_entry(state, pin, high, value);
                }
            }
        }
    }

    fn write_entry(&self, state: &mut State, pin: usize, high: bool, value: u32) {
        let old = state.entries[pin];
        let (shift, kept) = if high { (32, 0xffff_ffff) } else { (0, !0 << 32) };
        let written = old & kept | u64::from(value) << shift;
        let mut entry = written & WRITABLE | old & READ_ONLY;
        if entry & LEVEL == 0 {
            // Switching to edge is how drivers get rid of a stuck remote IRR.
            entry &= !REMOTE_IRR;
        }
        state.entries[pin] = entry;
        if message(old) != message(entry) && entry & MASKED == 0 || old & MASKED > entry & MASKED {
            self.send_routes(&[self.route(state, pin)]);
        }
        self.service_level(state, pin);
    }

    fn route(&self, state: &State, pin: usize) -> (Gsi, Option<Msi>) {
        (Gsi(pin as u32), Some(message(state.entries[pin])))
    }

    fn send_routes(&self, routes: &[(Gsi, Option<Msi>)]) {
        complaint::lost("a change of interrupt routes", self.vm.set_routes(routes));
    }
}

/// The message of an entry: vector and delivery mode stay where they are, destination and its mode go
/// into the address (Intel SDM volume 3, 11.11).
fn message(entry: u64) -> Msi {
    let (destination, logical) = (entry >> 56, entry >> 11 & 1);
    Msi {
        address: 0xfee0_0000 | destination << 12 | logical << 2,
        data: (entry & (VECTOR | 7 << 8 | LEVEL)) as u32,
    }
}

/// Pin and half of an index into the table.
fn table_place(index: u8) -> Option<(usize, bool)> {
    let place = index.checked_sub(INDEX_TABLE)?;
    let pin = usize::from(place / 2);
    (pin < PINS).then_some((pin, place % 2 == 1))
}

impl BusDevice for Ioapic {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = hold(&self.state);
        let value = match (offset, state.selected) {
            (REGISTER_SELECT, selected) => u32::from(selected),
            (REGISTER_WINDOW, INDEX_ID | INDEX_ARBITRATION) => state.id,
            (REGISTER_WINDOW, INDEX_VERSION) => VERSION,
            (REGISTER_WINDOW, index) => match table_place(index) {
                Some((pin, high)) => (state.entries[pin] >> if high { 32 } else { 0 }) as u32,
                None => 0,
            },
            _ => 0,
        };
        data.fill(0);
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut bytes = [0; 4];
        for (to, from) in bytes.iter_mut().zip(data) {
            *to = *from;
        }
        let value = u32::from_le_bytes(bytes);
        match offset {
            REGISTER_SELECT => hold(&self.state).selected = bytes[0],
            REGISTER_WINDOW => self.write_window(&mut hold(&self.state), value),
            REGISTER_EOI => self.end_of_interrupt(bytes[0]),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
