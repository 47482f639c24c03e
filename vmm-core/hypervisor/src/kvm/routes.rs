//! The routing table: which interrupt number delivers which message.
//!
//! The kernel takes the table only as a whole and waits for a grace period each time, so this keeps
//! it and replaces it once per batch. Pins 0 to 23 always have a route, an empty message until the
//! IOAPIC's model mirrors its redirection table here: from these routes the kernel learns which
//! vectors are level-triggered and reports their end (`KVM_EXIT_IOAPIC_EOI`).

use std::collections::{BTreeMap, BTreeSet};

use kvm_bindings::{KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry};
use kvm_ioctls::VmFd;

use crate::error::EngineError;
use crate::interrupt::{Gsi, IOAPIC_PINS, Msi};

/// The table and the numbers in use.
pub(super) struct Routes {
    limit: u32,
    allocated: BTreeSet<Gsi>,
    messages: BTreeMap<Gsi, Msi>,
}

impl Routes {
    /// Empty messages on the pins, room for interrupt numbers below `limit`.
    pub(super) fn new(limit: u32) -> Self {
        let pins = (0..u32::from(IOAPIC_PINS)).map(|pin| (Gsi(pin), Msi::default()));
        Self { limit, allocated: BTreeSet::new(), messages: pins.collect() }
    }

    pub(super) fn allocate(&mut self) -> Result<Gsi, EngineError> {
        let mut numbers = (u32::from(IOAPIC_PINS)..self.limit).map(Gsi);
        let free = numbers.find(|gsi| !self.allocated.contains(gsi));
        let gsi = free.ok_or(EngineError::NoGsiLeft { limit: self.limit })?;
        self.allocated.insert(gsi);
        Ok(gsi)
    }

    /// Forgets a number. The kernel's table loses it with the next batch.
    pub(super) fn release(&mut self, gsi: Gsi) {
        self.allocated.remove(&gsi);
        self.messages.remove(&gsi);
    }

    /// Applies a batch; tells the kernel only if something changed.
    pub(super) fn set(
        &mut self,
        vm: &VmFd,
        changes: &[(Gsi, Option<Msi>)],
    ) -> Result<(), EngineError> {
        let mut changed = false;
        for (gsi, message) in changes {
            changed |= match message {
                Some(message) => self.messages.insert(*gsi, *message) != Some(*message),
                None if gsi.0 < u32::from(IOAPIC_PINS) => {
                    self.messages.insert(*gsi, Msi::default()) != Some(Msi::default())
                }
                None => self.messages.remove(gsi).is_some(),
            };
        }
        if changed { self.commit(vm) } else { Ok(()) }
    }

    /// Hands the whole table to the kernel.
    pub(super) fn commit(&self, vm: &VmFd) -> Result<(), EngineError> {
        let entries: Vec<_> =
            self.messages.iter().map(|(gsi, message)| entry(*gsi, *message)).collect();
        let table = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| EngineError::NoGsiLeft { limit: self.limit })?;
        vm.set_gsi_routing(&table).map_err(EngineError::host("set interrupt routes"))
    }
}

fn entry(gsi: Gsi, message: Msi) -> kvm_irq_routing_entry {
    let mut entry =
        kvm_irq_routing_entry { gsi: gsi.0, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi.address_lo = message.address as u32;
    entry.u.msi.address_hi = (message.address >> 32) as u32;
    entry.u.msi.data = message.data;
    entry
}
