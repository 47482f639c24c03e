//! The local APIC.

use crate::cpu::Cpu;

impl Cpu {
    /// Whether an address belongs to the local APIC's register page.
    pub(crate) fn is_local_apic(&self, physical: u64) -> bool {
        physical & !0xfff == 0xfee0_0000
    }

    /// A load from the register page; `None` if it is not there.
    pub(crate) fn load_local_apic(&mut self, physical: u64, _width: u8) -> Option<u64> {
        self.is_local_apic(physical).then_some(0)
    }

    /// A store to the register page; `false` if it is not there.
    pub(crate) fn store_local_apic(&mut self, physical: u64, _width: u8, _value: u64) -> bool {
        self.is_local_apic(physical)
    }
}
