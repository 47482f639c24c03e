//! The local APIC of one vCPU (Intel SDM volume 3, chapter 11): priorities, registers, timer.
//!
//! Its registers lie in a page as the guest sees it, 16 bytes apart, which is also the form in which
//! they are saved. Other threads never touch them: what they send lies in the [`Mailbox`] until the vCPU
//! collects it.

mod fabric;
mod mailbox;
mod register;
mod rest;
mod timer;

use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) use fabric::Fabric;
pub(crate) use mailbox::{Mailbox, signal};

use crate::memory::World;

use timer::Timer;

/// IA32_APIC_BASE: boot processor, x2APIC mode, enabled.
const BASE_BOOT: u64 = 1 << 8;
const BASE_EXTENDED: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0xfee0_0000;

/// Indices of registers: their offset in the page by 16.
mod at {
    pub(super) const ID: usize = 0x2;
    pub(super) const VERSION: usize = 0x3;
    pub(super) const TASK_PRIORITY: usize = 0x8;
    pub(super) const PRIORITY: usize = 0xa;
    pub(super) const EOI: usize = 0xb;
    pub(super) const LOGICAL: usize = 0xd;
    pub(super) const FORMAT: usize = 0xe;
    pub(super) const SPURIOUS: usize = 0xf;
    pub(super) const IN_SERVICE: usize = 0x10;
    pub(super) const TRIGGER: usize = 0x18;
    pub(super) const REQUEST: usize = 0x20;
    pub(super) const ERROR: usize = 0x28;
    pub(super) const COMMAND: usize = 0x30;
    pub(super) const COMMAND_HIGH: usize = 0x31;
    pub(super) const TIMER: usize = 0x32;
    pub(super) const LAST_LOCAL: usize = 0x37;
    pub(super) const INITIAL_COUNT: usize = 0x38;
    pub(super) const CURRENT_COUNT: usize = 0x39;
    pub(super) const DIVIDE: usize = 0x3e;
    pub(super) const SELF: usize = 0x3f;
}

/// In a local vector: masked.
const MASKED: u32 = 1 << 16;

/// One vCPU's.
#[derive(Debug)]
pub(crate) struct Apic {
    base: u64,
    registers: [u32; 64],
    timer: Timer,
    pub(crate) mailbox: Arc<Mailbox>,
    fabric: Arc<Fabric>,
    id: u32,
    /// A level-triggered interrupt that ended, for the IOAPIC to hear.
    ended: Option<u8>,
}

impl Apic {
    /// The local APIC of vCPU `index`, as at power-on.
    pub(crate) fn new(index: u8, fabric: Arc<Fabric>) -> Option<Self> {
        let mailbox = fabric.mailbox(index)?;
        let mut apic = Self {
            base: BASE_ADDRESS | BASE_ENABLED | if index == 0 { BASE_BOOT } else { 0 },
            registers: [0; 64],
            timer: Timer::default(),
            mailbox,
            fabric,
            id: index.into(),
            ended: None,
        };
        apic.reset();
        apic.mailbox.present.store(true, Ordering::Release);
        Some(apic)
    }

    /// The other vCPUs' mailboxes.
    pub(crate) fn others(&self) -> Vec<Arc<Mailbox>> {
        self.fabric.others(&self.mailbox)
    }

    /// Who of the machine's vCPUs may execute.
    pub(crate) fn world(&self) -> &World {
        &self.fabric.world
    }

    /// The vCPU comes to rest, behind HLT or before its start: no interrupt can wake it. Whether the whole
    /// machine rests with it, and it is the one to tell.
    pub(crate) fn come_to_rest(&self, halted: bool) -> bool {
        self.fabric.come_to_rest(self.id, halted)
    }

    /// It rests no more.
    pub(crate) fn leave_rest(&self) {
        self.fabric.leave_rest(self.id);
    }

    /// As after INIT: everything but the base and the id.
    pub(crate) fn reset(&mut self) {
        self.registers = [0; 64];
        self.registers[at::VERSION] = 0x0005_0014;
        self.registers[at::FORMAT] = u32::MAX;
        self.registers[at::SPURIOUS] = 0xff;
        self.registers[at::TIMER..=at::LAST_LOCAL].fill(MASKED);
        self.timer = Timer::default();
        self.publish();
    }

    /// Tells the senders of messages how to reach us.
    fn publish(&mut self) {
        let extended = self.is_extended();
        self.registers[at::ID] = if extended { self.id } else { self.id << 24 };
        if extended {
            // Cluster and bit follow from the id.
            self.registers[at::LOGICAL] = (self.id >> 4) << 16 | 1 << (self.id & 0xf);
        }
        self.mailbox.id.store(self.id, Ordering::Relaxed);
        self.mailbox.logical.store(self.registers[at::LOGICAL], Ordering::Relaxed);
        self.mailbox.format.store(self.registers[at::FORMAT], Ordering::Relaxed);
        self.mailbox.extended.store(extended, Ordering::Relaxed);
    }

    /// IA32_APIC_BASE.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Whether it is there at all.
    pub(crate) fn is_enabled(&self) -> bool {
        self.base & BASE_ENABLED != 0
    }

    fn is_extended(&self) -> bool {
        self.base & BASE_EXTENDED != 0
    }

    /// Whether software has switched it on.
    fn is_on(&self) -> bool {
        self.is_enabled() && self.registers[at::SPURIOUS] & 1 << 8 != 0
    }

    /// CR8's form of the task priority, in bits 4–7.
    pub(crate) fn priority(&self) -> u8 {
        self.registers[at::TASK_PRIORITY] as u8
    }

    /// Sets the task priority.
    pub(crate) fn set_priority(&mut self, priority: u8) {
        self.registers[at::TASK_PRIORITY] = priority.into();
    }

    /// Takes over what others have posted.
    pub(crate) fn collect(&mut self) {
        for index in 0..8 {
            let (requests, levels) = self.mailbox.collect(index);
            if requests != 0 && self.is_enabled() {
                self.registers[at::REQUEST + index] |= requests;
                let trigger = &mut self.registers[at::TRIGGER + index];
                *trigger = *trigger & !requests | levels & requests;
            }
        }
    }

    /// Where the words of requests lie, eight bytes each: while all are zero, none waits.
    pub(crate) fn requests() -> [usize; 4] {
        let first = std::mem::offset_of!(Self, registers) + at::REQUEST * size_of::<u32>();
        std::array::from_fn(|index| first + 8 * index)
    }

    fn highest(&self, first: usize) -> Option<u8> {
        (0..8).rev().find_map(|index| {
            let word = self.registers[first + index];
            (word != 0).then(|| (index * 32) as u8 + 31 - word.leading_zeros() as u8)
        })
    }

    fn processor_priority(&self) -> u8 {
        let task = self.priority();
        let service = self.highest(at::IN_SERVICE).unwrap_or(0) & 0xf0;
        if task & 0xf0 >= service { task } else { service }
    }

    /// The interrupt that the processor would take now.
    pub(crate) fn pending(&self) -> Option<u8> {
        if !self.is_on() {
            return None;
        }
        self.highest(at::REQUEST).filter(|vector| vector & 0xf0 > self.processor_priority() & 0xf0)
    }

    /// The processor takes an interrupt.
    pub(crate) fn accept(&mut self, vector: u8) {
        let (word, bit) = (usize::from(vector / 32), 1 << (vector % 32));
        self.registers[at::REQUEST + word] &= !bit;
        self.registers[at::IN_SERVICE + word] |= bit;
    }

    /// A level-triggered interrupt that ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Option<u8> {
        self.ended.take()
    }

    fn end_interrupt(&mut self) {
        let Some(vector) = self.highest(at::IN_SERVICE) else {
            return;
        };
        let (word, bit) = (usize::from(vector / 32), 1 << (vector % 32));
        self.registers[at::IN_SERVICE + word] &= !bit;
        if self.registers[at::TRIGGER + word] & bit != 0 {
            self.ended = Some(vector);
        }
        // The run loop shall see what can come now.
        self.mailbox.signals.fetch_or(signal::WORK, Ordering::Relaxed);
    }

    /// The page as it is saved.
    pub(crate) fn page(&self) -> &[u32; 64] {
        &self.registers
    }

    /// Restores the page.
    pub(crate) fn set_page(&mut self, page: [u32; 64]) {
        self.registers = page;
        self.publish();
    }
}
