//! ACPI power management: buttons, the system control interrupt, switching off.
//!
//! Three blocks of ports (ACPI 6.5, 4.8.3 and 4.8.4): PM1 events, of which this hardware raises none;
//! PM1 control, where a guest writes its sleep type; and general purpose events, of which two are the
//! buttons. The interrupt is a level: asserted as long as an enabled event is set.
//!
//! Absent on purpose: a legacy mode (there is no SMI command, so ACPI is always on), S3, wake-up events.

use std::sync::{Arc, Mutex};

use crate::bus::BusDevice;
use crate::hold::hold;
use crate::irq::IrqLine;
use crate::layout::{GPE_POWER_BUTTON, GPE_SLEEP_BUTTON, SLEEP_TYPE_OFF};
use crate::request::{Request, Requests};

/// Bit of the control register that says that ACPI is on. Always set.
const SCI_ENABLED: u16 = 1;
const SLEEP_ENABLE: u16 = 1 << 13;
/// Events of PM1 that a guest may enable: timer, global lock, buttons, clock.
const PM1_ENABLE_WRITABLE: u16 = 1 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10;
const GPE_WRITABLE: u16 = 1 << GPE_POWER_BUTTON | 1 << GPE_SLEEP_BUTTON;

/// A button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Button {
    /// Asks the guest to shut down.
    Power,
    /// Asks the guest to sleep.
    Sleep,
}

#[derive(Default)]
struct State {
    pm1_enable: u16,
    gpe_status: u16,
    gpe_enable: u16,
}

impl State {
    fn interrupts(&self) -> bool {
        self.gpe_status & self.gpe_enable != 0
    }
}

/// All three blocks; each is put on the bus as a [`PowerPort`].
pub struct Power {
    state: Mutex<State>,
    interrupt: IrqLine,
    requests: Requests,
}

impl Power {
    /// As at power-on: nothing enabled.
    pub fn new(interrupt: IrqLine, requests: Requests) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), interrupt, requests })
    }

    /// Presses a button. A guest that has not enabled it finds it pressed when it does.
    pub fn press(&self, button: Button) {
        let event = match button {
            Button::Power => GPE_POWER_BUTTON,
            Button::Sleep => GPE_SLEEP_BUTTON,
        };
        self.change(|state| state.gpe_status |= 1 << event);
    }

    /// As at power-on.
    pub fn reset(&self) {
        self.change(|state| *state = State::default());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = hold(&self.state);
        change(&mut state);
        self.interrupt.set(state.interrupts());
    }

    fn read_word(&self, block: PowerBlock, word: u64) -> u16 {
        let state = hold(&self.state);
        match (block, word) {
            (PowerBlock::Events, 1) => state.pm1_enable,
            (PowerBlock::Control, 0) => SCI_ENABLED,
            (PowerBlock::GeneralEvents, 0) => state.gpe_status,
            (PowerBlock::GeneralEvents, 1) => state.gpe_enable,
            _ => 0,
        }
    }

    /// Writes the bits of `value` that `lanes` covers; `lanes` is ones where the guest's bytes are.
    fn write_word(&self, block: PowerBlock, word: u64, value: u16, lanes: u16) {
        let merge = |old: u16, allowed: u16| old & !lanes | value & lanes & allowed;
        match (block, word) {
            (PowerBlock::Events, 1) => {
                self.change(|state| {
                    state.pm1_enable = merge(state.pm1_enable, PM1_ENABLE_WRITABLE)
                });
            }
            (PowerBlock::GeneralEvents, 0) => {
                self.change(|state| state.gpe_status &= !(value & lanes))
            }
            (PowerBlock::GeneralEvents, 1) => {
                self.change(|state| state.gpe_enable = merge(state.gpe_enable, GPE_WRITABLE));
            }
            (PowerBlock::Control, 0) => self.control(value & lanes),
            _ => {}
        }
    }

    fn control(&self, value: u16) {
        let sleep_type = (value >> 10 & 7) as u8;
        if value & SLEEP_ENABLE != 0 && sleep_type == SLEEP_TYPE_OFF {
            (self.requests)(Request::PowerOff);
        }
    }
}

/// Which block of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerBlock {
    /// PM1a event block.
    Events,
    /// PM1a control block.
    Control,
    /// General purpose events.
    GeneralEvents,
}

/// One block on the bus.
pub struct PowerPort(pub Arc<Power>, pub PowerBlock);

impl BusDevice for PowerPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            let word = self.0.read_word(self.1, at / 2);
            *byte = word.to_le_bytes()[at as usize % 2];
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        for word in offset / 2..end.div_ceil(2) {
            let (mut value, mut lanes) = ([0; 2], [0; 2]);
            for at in (word * 2).max(offset)..(word * 2 + 2).min(end) {
                value[at as usize % 2] = data[(at - offset) as usize];
                lanes[at as usize % 2] = 0xff;
            }
            self.0.write_word(self.1, word, u16::from_le_bytes(value), u16::from_le_bytes(lanes));
        }
    }
}

#[cfg(test)]
mod tests;
