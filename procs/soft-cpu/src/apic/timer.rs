//! The local APIC's timer: one-shot, periodic, or at a value of the time-stamp counter.

use super::{Apic, MASKED, at};
use crate::cpu::Cpu;

/// When it goes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timer {
    /// In ticks of the machine's clock; `u64::MAX`: never.
    expiry: u64,
    /// Ticks between two, in periodic mode.
    period: u64,
    /// What the guest wrote to IA32_TSC_DEADLINE, until it went off.
    deadline: u64,
}

impl Default for Timer {
    fn default() -> Self {
        Self { expiry: u64::MAX, period: 0, deadline: 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    OneShot,
    Periodic,
    Deadline,
}

impl Apic {
    fn timer_mode(&self) -> Mode {
        match self.registers[at::TIMER] >> 17 & 3 {
            1 => Mode::Periodic,
            2 => Mode::Deadline,
            _ => Mode::OneShot,
        }
    }

    /// Nanoseconds of one count: the bus ticks a thousand million times a second.
    fn divider(&self) -> u64 {
        let bits = self.registers[at::DIVIDE];
        let shift = ((bits & 3 | bits >> 1 & 4) + 1) & 7;
        1 << shift
    }

    /// IA32_TSC_DEADLINE.
    pub(crate) fn deadline(&self) -> u64 {
        self.timer.deadline
    }

    /// When the timer goes off, in ticks of the machine's clock.
    pub(crate) fn expiry(&self) -> u64 {
        self.timer.expiry
    }

    pub(super) fn disarm(&mut self) {
        self.timer = Timer::default();
    }
}

impl Cpu {
    /// IA32_TSC_DEADLINE is written; outside that mode it is ignored.
    pub(crate) fn set_deadline(&mut self, counter: u64) {
        if self.apic.timer_mode() != Mode::Deadline {
            return;
        }
        self.apic.disarm();
        if counter != 0 {
            let expiry = counter.wrapping_sub(self.msrs.tsc_offset);
            self.apic.timer = Timer { expiry, period: 0, deadline: counter };
        }
    }

    /// The initial count is written: the timer starts.
    pub(super) fn start_timer(&mut self, count: u32) {
        if self.apic.timer_mode() == Mode::Deadline {
            return;
        }
        self.apic.registers[at::INITIAL_COUNT] = count;
        self.apic.disarm();
        if count != 0 {
            let ticks = self.clock.ticks(u64::from(count) * self.apic.divider()).max(1);
            let expiry = self.now().wrapping_add(ticks);
            self.apic.timer = Timer { expiry, period: ticks, deadline: 0 };
        }
    }

    /// What is left of the count.
    pub(super) fn current_count(&self) -> u32 {
        let Timer { expiry, .. } = self.apic.timer;
        if expiry == u64::MAX || self.apic.timer_mode() == Mode::Deadline {
            return 0;
        }
        let left = self.clock.duration(expiry.saturating_sub(self.now())).as_nanos() as u64;
        u32::try_from(left / self.apic.divider()).unwrap_or(u32::MAX)
    }

    /// Lets the timer go off if it is time.
    #[inline]
    pub(crate) fn poll_timer(&mut self) {
        let expiry = self.apic.timer.expiry;
        if expiry == u64::MAX {
            return;
        }
        let now = self.now();
        if now >= expiry {
            self.timer_expired(now);
        }
    }

    #[cold]
    fn timer_expired(&mut self, now: u64) {
        let local = self.apic.registers[at::TIMER];
        let timer = self.apic.timer;
        self.apic.disarm();
        if self.apic.timer_mode() == Mode::Periodic && timer.period != 0 {
            // Periods that nobody saw are lost, as on a processor that is busy elsewhere.
            let missed = (now - timer.expiry) / timer.period;
            let expiry = timer.expiry + (missed + 1) * timer.period;
            self.apic.timer = Timer { expiry, ..timer };
        }
        let vector = local as u8;
        if local & MASKED == 0 && vector >= 16 && self.apic.is_on() {
            let (word, bit) = (usize::from(vector / 32), 1 << (vector % 32));
            self.apic.registers[at::REQUEST + word] |= bit;
            self.apic.registers[at::TRIGGER + word] &= !bit;
        }
    }
}
