//! The registers as the guest reads and writes them: by the page, or by model-specific registers.

use super::fabric::{Destination, Message};
use super::{BASE_ADDRESS, BASE_BOOT, BASE_ENABLED, BASE_EXTENDED, MASKED, at};
use crate::cpu::Cpu;

/// What a register access does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By the page.
    Page,
    /// By model-specific registers.
    Extended,
}

impl Cpu {
    /// Whether an address belongs to the local APIC's register page.
    #[inline]
    pub(crate) fn is_local_apic(&self, physical: u64) -> bool {
        physical >> 12 == BASE_ADDRESS >> 12
            && self.apic.base & (BASE_ENABLED | BASE_EXTENDED) == BASE_ENABLED
    }

    /// A load from the register page; `None` if it is not there.
    pub(crate) fn load_local_apic(&mut self, physical: u64, _width: u8) -> Option<u64> {
        if !self.is_local_apic(physical) {
            return None;
        }
        let index = (physical >> 4) as usize & 0xff;
        let word = if physical & 0xf < 4 { self.read_register(index).unwrap_or(0) } else { 0 };
        Some(u64::from(word) >> (8 * (physical & 3)))
    }

    /// A store to the register page; `false` if it is not there. Only whole registers are written.
    pub(crate) fn store_local_apic(&mut self, physical: u64, width: u8, value: u64) -> bool {
        if !self.is_local_apic(physical) {
            return false;
        }
        let index = (physical >> 4) as usize & 0xff;
        if physical & 0xf == 0 && width >= 4 {
            self.write_register(index, value as u32, Form::Page);
        }
        true
    }

    /// A register by its x2APIC number.
    pub(crate) fn apic_register(&mut self, msr: u32) -> Option<u64> {
        if !self.apic.is_extended() {
            return None;
        }
        match (msr - 0x800) as usize {
            at::COMMAND => {
                let high = self.apic.registers[at::COMMAND_HIGH];
                Some(u64::from(self.apic.registers[at::COMMAND]) | u64::from(high) << 32)
            }
            at::EOI | at::SELF | at::COMMAND_HIGH | at::FORMAT => None,
            index => self.read_register(index).map(u64::from),
        }
    }

    /// Writes a register by its x2APIC number.
    pub(crate) fn set_apic_register(&mut self, msr: u32, value: u64) -> bool {
        if !self.apic.is_extended() {
            return false;
        }
        let index = (msr - 0x800) as usize;
        match index {
            at::COMMAND => {
                self.apic.registers[at::COMMAND_HIGH] = (value >> 32) as u32;
                self.write_register(at::COMMAND, value as u32, Form::Extended)
            }
            at::SELF => {
                self.apic.mailbox.post(value as u8, false);
                true
            }
            at::ID | at::LOGICAL | at::FORMAT | at::COMMAND_HIGH | at::VERSION => false,
            _ if value >> 32 != 0 => false,
            _ => self.write_register(index, value as u32, Form::Extended),
        }
    }

    fn read_register(&mut self, index: usize) -> Option<u32> {
        match index {
            at::PRIORITY => Some(self.apic.processor_priority().into()),
            at::CURRENT_COUNT => Some(self.current_count()),
            at::REQUEST..=0x27 => {
                self.apic.collect();
                Some(self.apic.registers[index])
            }
            at::ID | at::VERSION | at::TASK_PRIORITY | at::LOGICAL | at::FORMAT | at::SPURIOUS => {
                Some(self.apic.registers[index])
            }
            at::IN_SERVICE..=0x1f | at::ERROR | at::COMMAND | at::COMMAND_HIGH => {
                Some(self.apic.registers[index])
            }
            at::TIMER..=at::INITIAL_COUNT | at::DIVIDE => Some(self.apic.registers[index]),
            _ => None,
        }
    }

    fn write_register(&mut self, index: usize, value: u32, form: Form) -> bool {
        let apic = &mut self.apic;
        match index {
            at::TASK_PRIORITY => apic.registers[index] = value & 0xff,
            at::EOI => apic.end_interrupt(),
            at::LOGICAL => apic.registers[index] = value & 0xff00_0000,
            at::FORMAT => apic.registers[index] = value | 0x0fff_ffff,
            at::SPURIOUS => {
                apic.registers[index] = value & 0x1ff;
                if value & 1 << 8 == 0 {
                    for local in &mut apic.registers[at::TIMER..=at::LAST_LOCAL] {
                        *local |= MASKED;
                    }
                }
            }
            at::ERROR => apic.registers[index] = 0,
            at::COMMAND => {
                apic.registers[index] = value & 0x000c_cfff;
                self.send_message(form);
                return true;
            }
            at::COMMAND_HIGH => apic.registers[index] = value & 0xff00_0000,
            at::TIMER => {
                if (apic.registers[index] ^ value) & 3 << 17 != 0 {
                    apic.disarm();
                }
                apic.registers[index] = value & 0x7_10ff;
                if !apic.is_on() {
                    apic.registers[index] |= MASKED;
                }
            }
            0x33..=at::LAST_LOCAL => apic.registers[index] = value & 0x1_f7ff,
            at::INITIAL_COUNT => self.start_timer(value),
            at::DIVIDE => apic.registers[index] = value & 0xb,
            _ => return false,
        }
        self.apic.publish();
        // A lower priority may let an interrupt through.
        self.apic
            .mailbox
            .signals
            .fetch_or(super::signal::WORK, std::sync::atomic::Ordering::Relaxed);
        true
    }

    fn send_message(&mut self, form: Form) {
        let low = self.apic.registers[at::COMMAND];
        let high = self.apic.registers[at::COMMAND_HIGH];
        let to = if form == Form::Extended { high } else { high >> 24 };
        let destination = match low >> 18 & 3 {
            0 if low & 1 << 11 != 0 => Destination::Logical(to),
            0 => Destination::Physical(to),
            1 => Destination::Physical(self.apic.id),
            2 => Destination::All,
            _ => Destination::Others(self.apic.id),
        };
        let mode = (low >> 8) as u8 & 7;
        // The second half of an INIT, which only old bus APICs wanted.
        if mode == 5 && low & 1 << 14 == 0 && low & 1 << 15 != 0 {
            return;
        }
        self.apic
            .fabric
            .clone()
            .send(destination, Message { mode, vector: low as u8, level: false });
    }

    /// IA32_APIC_BASE is written. The page does not move, and x2APIC mode is left only by way of "off".
    pub(crate) fn set_apic_base(&mut self, value: u64) -> bool {
        let (old, new) = (self.apic.base, value & (BASE_ENABLED | BASE_EXTENDED));
        let illegal = new == BASE_EXTENDED
            || old & BASE_EXTENDED != 0 && new == BASE_ENABLED
            || value & !0xfff & !(BASE_ADDRESS) != 0;
        if illegal {
            return false;
        }
        self.apic.base = BASE_ADDRESS | old & BASE_BOOT | new;
        if new & BASE_ENABLED == 0 {
            self.apic.reset();
        }
        self.apic.publish();
        self.flush_all();
        true
    }
}
