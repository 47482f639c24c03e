//! Messages between local APICs, and from devices to them (Intel SDM volume 3, 11.6 and 11.11).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhead_hypervisor::Msi;

use super::mailbox::{Mailbox, signal};
use super::rest::Rest;
use crate::memory::World;

/// Most vCPUs of a machine.
pub(super) const MOST: usize = 16;

/// All mailboxes of a machine.
#[derive(Debug, Default)]
pub(crate) struct Fabric {
    mailboxes: [Arc<Mailbox>; MOST],
    /// Who may execute.
    pub(super) world: World,
    rest: Rest,
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// One local APIC, or all of them (0xff, or all ones in x2APIC mode).
    Physical(u32),
    /// Those whose logical id matches.
    Logical(u32),
    /// Everyone.
    All,
    /// Everyone but this one.
    Others(u32),
}

/// What.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    /// Fixed, lowest priority, SMI, –, NMI, INIT, start-up, ExtINT.
    pub(super) mode: u8,
    pub(super) vector: u8,
    pub(super) level: bool,
}

impl Fabric {
    /// The mailbox of a vCPU.
    pub(crate) fn mailbox(&self, index: u8) -> Option<Arc<Mailbox>> {
        self.mailboxes.get(usize::from(index)).cloned()
    }

    /// The mailboxes of all vCPUs there are.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.mailboxes.iter().filter(|mailbox| mailbox.present.load(Ordering::Acquire))
    }

    /// The mailboxes of all vCPUs there are but this one.
    pub(super) fn others(&self, own: &Arc<Mailbox>) -> Vec<Arc<Mailbox>> {
        let is_other = |mailbox: &&Arc<Mailbox>| {
            mailbox.present.load(Ordering::Acquire) && !Arc::ptr_eq(mailbox, own)
        };
        self.mailboxes.iter().filter(is_other).cloned().collect()
    }

    /// Vcpu `own` comes to rest. Whether it has to tell that all do: see [`Rest`].
    pub(super) fn come_to_rest(&self, own: u32, halted: bool) -> bool {
        self.rest.begin(own, halted, &self.mailboxes)
    }

    /// Vcpu `own` rests no more.
    pub(super) fn leave_rest(&self, own: u32) {
        self.rest.end(own);
    }

    /// Delivers a device's message.
    pub(crate) fn deliver(&self, msi: Msi) {
        if msi.address >> 20 & 0xfff != 0xfee {
            return;
        }
        let id = (msi.address >> 12) as u32 & 0xff;
        let is_logical = msi.address & 1 << 2 != 0;
        let destination =
            if is_logical { Destination::Logical(id) } else { Destination::Physical(id) };
        let message = Message {
            mode: (msi.data >> 8) as u8 & 7,
            vector: msi.data as u8,
            level: msi.data & 1 << 15 != 0,
        };
        self.send(destination, message);
    }

    pub(super) fn send(&self, destination: Destination, message: Message) {
        let present = self.mailboxes.iter().filter(|mailbox| {
            mailbox.present.load(Ordering::Acquire) && matches(mailbox, destination)
        });
        for mailbox in present {
            match message.mode {
                0 => mailbox.post(message.vector, message.level),
                1 => return mailbox.post(message.vector, message.level),
                4 => mailbox.signal(signal::NMI),
                5 => mailbox.signal(signal::INIT),
                6 => mailbox.start(message.vector),
                _ => {}
            }
        }
    }
}

fn matches(mailbox: &Mailbox, destination: Destination) -> bool {
    let id = mailbox.id.load(Ordering::Relaxed);
    let logical = mailbox.logical.load(Ordering::Relaxed);
    let extended = mailbox.extended.load(Ordering::Relaxed);
    match destination {
        Destination::All => true,
        Destination::Others(own) => id != own,
        Destination::Physical(to) => to == id || to == u32::MAX || to == 0xff,
        Destination::Logical(to) if extended && to > 0xff => {
            to == u32::MAX || to >> 16 == logical >> 16 && to & logical & 0xffff != 0
        }
        Destination::Logical(to) if extended => {
            to == 0xff || logical >> 16 == 0 && to & logical != 0
        }
        Destination::Logical(to) => {
            let own = logical >> 24;
            let flat = mailbox.format.load(Ordering::Relaxed) >> 28 == 0xf;
            to == 0xff
                || flat && to & own != 0
                || !flat && to >> 4 == own >> 4 && to & own & 0xf != 0
        }
    }
}
