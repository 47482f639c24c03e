//! What other threads leave for a vCPU: interrupts, INIT and SIPI, kicks; and how a halted one is woken.
//!
//! Law: data first, then the signal bit (release); the vCPU takes the bit first (acquire), then the data.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::memory::order::Orders;

/// Bits of the signal word.
pub(crate) mod signal {
    /// Interrupts were posted, or the run loop shall look up for another reason.
    pub(crate) const WORK: u32 = 1;
    /// `Vcpu::run` shall return.
    pub(crate) const KICK: u32 = 1 << 1;
    /// INIT.
    pub(crate) const INIT: u32 = 1 << 2;
    /// A start-up message; its vector is beside it.
    pub(crate) const STARTUP: u32 = 1 << 3;
    /// A non-maskable interrupt.
    pub(crate) const NMI: u32 = 1 << 4;
}

/// One vCPU's.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// What happened; the run loop looks at it between blocks.
    pub(crate) signals: AtomicU32,
    requests: [AtomicU32; 8],
    levels: [AtomicU32; 8],
    startup: AtomicU8,
    /// The vCPU exists.
    pub(super) present: AtomicBool,
    /// Local APIC is in x2APIC mode; then `logical` is its logical id.
    pub(super) extended: AtomicBool,
    /// Physical id.
    pub(super) id: AtomicU32,
    /// Logical destination register, and in xAPIC mode the destination format.
    pub(super) logical: AtomicU32,
    pub(super) format: AtomicU32,
    /// What other vCPUs order about code.
    pub(crate) orders: Orders,
    sleeping: Mutex<()>,
    wake: Condvar,
}

impl Mailbox {
    /// Sets a signal and wakes the vCPU if it sleeps.
    pub(crate) fn signal(&self, bits: u32) {
        self.signals.fetch_or(bits, Ordering::AcqRel);
        drop(self.sleeping.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    /// Takes all signals.
    pub(crate) fn take(&self) -> u32 {
        self.signals.swap(0, Ordering::AcqRel)
    }

    /// Posts an interrupt.
    pub(crate) fn post(&self, vector: u8, level: bool) {
        let (word, bit) = (usize::from(vector / 32), 1 << (vector % 32));
        if level {
            self.levels[word].fetch_or(bit, Ordering::Relaxed);
        } else {
            self.levels[word].fetch_and(!bit, Ordering::Relaxed);
        }
        self.requests[word].fetch_or(bit, Ordering::Release);
        self.signal(signal::WORK);
    }

    /// Takes word `index` of the posted interrupts, and which of its vectors are level-triggered.
    pub(super) fn collect(&self, index: usize) -> (u32, u32) {
        let requests = self.requests[index].swap(0, Ordering::Acquire);
        (requests, self.levels[index].load(Ordering::Relaxed))
    }

    /// Posts a start-up message.
    pub(super) fn start(&self, vector: u8) {
        self.startup.store(vector, Ordering::Relaxed);
        self.signal(signal::STARTUP);
    }

    /// The vector of the last start-up message.
    pub(crate) fn startup(&self) -> u8 {
        self.startup.load(Ordering::Relaxed)
    }

    /// Sleeps until there is a signal, or for so long.
    pub(crate) fn sleep(&self, longest: Option<Duration>) {
        let guard = self.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        if self.signals.load(Ordering::Acquire) != 0 {
            return;
        }
        match longest {
            Some(longest) => drop(self.wake.wait_timeout(guard, longest)),
            None => drop(self.wake.wait(guard)),
        }
    }
}
