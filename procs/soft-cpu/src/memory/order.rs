//! What one vCPU has to tell the others about code in RAM.
//!
//! ```text
//!  A decodes from a page: mark it ─► "no writes past the TLB" to all ─► wait ─► read the bytes
//!  A writes to such a page: unmark it ─► "drop what you decoded" to all ─► write
//! ```
//!
//! Orders are obeyed between blocks, and while waiting for others to obey: two vCPUs that wait for each
//! other both get what they want. Who is not inside the guest obeys before going in, and is not waited
//! for. A write that was under way when its page was marked is over when its vCPU has obeyed; what the
//! writer's vCPU decodes later, it reads after that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::apic::{Fabric, signal};
use crate::cpu::Cpu;

/// One order. Pages by the guest-physical address of their first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Writes to this page must not go past the slow path.
    ForbidWrites(u64),
    /// Code of this page is no longer what it was.
    DropCode(u64),
    /// No code is what it was.
    DropAllCode,
    /// No write must go past the slow path that was not there before.
    ForbidAllWrites,
    /// Accesses to this page must not go past the slow path.
    ForbidAccess(u64),
}

/// One vCPU's orders.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    queue: Mutex<Vec<Order>>,
    given: AtomicU64,
    obeyed: AtomicU64,
    /// It executes, or is about to: it must be waited for.
    inside: AtomicBool,
}

impl Orders {
    /// Gives an order that nobody waits for, or waits for by its number.
    pub(crate) fn give(&self, order: Order) -> u64 {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(order);
        self.given.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn is_done(&self, number: u64) -> bool {
        self.obeyed.load(Ordering::SeqCst) >= number || !self.is_inside()
    }

    /// Whether its vCPU executes, or is about to.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.load(Ordering::SeqCst)
    }
}

impl Cpu {
    /// From now on this vCPU is waited for; what was ordered before is obeyed. Waits while another one
    /// executes alone.
    pub(crate) fn go_inside(&mut self) {
        loop {
            self.apic.mailbox.orders.inside.store(true, Ordering::SeqCst);
            if !self.apic.world().is_taken() {
                break;
            }
            self.go_outside();
            self.apic.world().wait();
        }
        self.obey();
    }

    /// From now on this vCPU touches no guest memory and is not waited for.
    pub(crate) fn go_outside(&mut self) {
        self.apic.mailbox.orders.inside.store(false, Ordering::SeqCst);
    }

    /// Does what others have ordered. Only between blocks.
    pub(crate) fn obey(&mut self) {
        let mailbox = self.apic.mailbox.clone();
        let orders = &mailbox.orders;
        if orders.obeyed.load(Ordering::Relaxed) == orders.given.load(Ordering::SeqCst) {
            return;
        }
        let (queue, given) = {
            let mut queue = orders.queue.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut *queue), orders.given.load(Ordering::SeqCst))
        };
        for order in queue {
            match order {
                Order::ForbidWrites(physical) => self.forbid_writes(physical),
                Order::DropAllCode => self.blocks.invalidate_all(),
                Order::ForbidAllWrites => self.tlb.forbid_all_writes(),
                Order::ForbidAccess(physical) => self.forbid_access(physical),
                Order::DropCode(physical) => self.blocks.invalidate(&self.ram, physical),
            }
        }
        orders.obeyed.store(given, Ordering::SeqCst);
    }

    /// Takes this vCPU's write tags to a page.
    pub(crate) fn forbid_writes(&mut self, physical: u64) {
        if let Some(host) = self.ram.host(physical, super::ram::PAGE)
            && let Some(page) = self.ram.page_number(physical)
        {
            self.tlb.forbid_writes(host as u64, page);
        }
    }

    /// Takes this vCPU's translations to a page.
    fn forbid_access(&mut self, physical: u64) {
        if let Some(host) = self.ram.host(physical, super::ram::PAGE) {
            self.tlb.forbid_access(host as u64);
        }
    }

    /// Gives an order to all other vCPUs; `wait`: until they have obeyed. Only between blocks.
    pub(crate) fn order(&mut self, order: Order, wait: bool) {
        let others = self.apic.others();
        for other in others {
            let number = other.orders.give(order);
            other.signal(signal::WORK);
            let mut looks = 0;
            while wait && !other.orders.is_done(number) {
                self.obey();
                super::world::pause(&mut looks);
            }
        }
    }
}

impl Fabric {
    /// Gives an order to all vCPUs and waits until they have obeyed: a block's time, if they run. Not for a
    /// vCPU's own thread.
    pub(crate) fn order_all(&self, order: Order) {
        for mailbox in self.all() {
            let number = mailbox.orders.give(order);
            mailbox.signal(signal::WORK);
            while !mailbox.orders.is_done(number) {
                std::thread::yield_now();
            }
        }
    }
}
