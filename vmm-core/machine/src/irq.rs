//! A device's wire to the interrupt controller.

use std::sync::Arc;

use crate::ioapic::Ioapic;

/// One pin of the IOAPIC, held by the device that is wired to it.
#[derive(Clone)]
pub struct IrqLine {
    ioapic: Arc<Ioapic>,
    pin: u8,
}

impl IrqLine {
    /// The wire to `pin`.
    pub fn new(ioapic: &Arc<Ioapic>, pin: u8) -> Self {
        Self { ioapic: Arc::clone(ioapic), pin }
    }

    /// An edge: one interrupt, if the pin is edge-triggered and not masked.
    pub fn pulse(&self) {
        self.ioapic.set_line(self.pin, true);
        self.ioapic.set_line(self.pin, false);
    }

    /// The level of the wire, for a level-triggered pin.
    pub fn set(&self, asserted: bool) {
        self.ioapic.set_line(self.pin, asserted);
    }
}
