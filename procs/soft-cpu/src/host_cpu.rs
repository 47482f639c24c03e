//! What the host's CPU must offer, since guest instructions are computed by the host's own.
//!
//! Asked once, by the process before it makes a machine and by an engine that is used without one. Every `asm!` of `alu`, `vector` and `x87` relies on it. There is no
//! emulation of what is missing: all x86-64 CPUs since 2013 have these.

use core::arch::x86_64::{__cpuid, __cpuid_count};

/// The answers of CPUID that tell of instruction sets (Intel SDM volume 2, CPUID).
#[derive(Debug, Clone, Copy)]
pub struct HostCpu {
    /// Leaf 1.
    ecx: u32,
    edx: u32,
    /// Leaf 7.
    ebx_7: u32,
    /// Leaf 8000_0001h.
    ecx_extended: u32,
}

impl HostCpu {
    /// What this host says.
    pub fn probe() -> Self {
        let (basic, extended) = (__cpuid(0).eax, __cpuid(0x8000_0000).eax);
        let first = __cpuid(1);
        Self {
            ecx: first.ecx,
            edx: first.edx,
            ebx_7: if basic >= 7 { __cpuid_count(7, 0).ebx } else { 0 },
            ecx_extended: if extended > 0x8000_0000 { __cpuid(0x8000_0001).ecx } else { 0 },
        }
    }

    /// All that is needed, by name: the register, and the bit in it.
    fn needed(&self) -> [(u32, u32, &'static str); 10] {
        [
            (self.edx, 24, "FXSAVE"),
            (self.ecx, 9, "SSSE3"),
            (self.ecx, 20, "SSE4.2"),
            (self.ecx, 25, "AES-NI"),
            (self.ecx, 1, "PCLMULQDQ"),
            (self.ecx, 23, "POPCNT"),
            (self.ecx_extended, 5, "LZCNT"),
            (self.ebx_7, 3, "BMI1"),
            (self.ecx, 13, "CMPXCHG16B"),
            (self.ecx_extended, 0, "LAHF in 64-bit mode"),
        ]
    }

    /// The same host without AES-NI and PCLMULQDQ, as before 2010.
    #[must_use]
    pub fn without_aes(self) -> Self {
        Self { ecx: self.ecx & !(1 << 25 | 1 << 1), ..self }
    }

    /// The first instruction set that is missing.
    pub fn missing(&self) -> Option<&'static str> {
        let is_absent = |(register, bit, _): &(u32, u32, &str)| register >> bit & 1 == 0;
        self.needed().into_iter().find(is_absent).map(|(_, _, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: HostCpu =
        HostCpu { ecx: u32::MAX, edx: u32::MAX, ebx_7: u32::MAX, ecx_extended: u32::MAX };

    #[test]
    fn a_processor_with_all_of_it_lacks_nothing() {
        assert_eq!(EVERYTHING.missing(), None);
    }

    #[test]
    fn what_an_older_processor_lacks_is_named() {
        let nehalem = HostCpu { ebx_7: 0, ..EVERYTHING.without_aes() };
        assert_eq!(nehalem.missing(), Some("AES-NI"));
        let ivy_bridge = HostCpu { ebx_7: 0, ecx_extended: 1, ..EVERYTHING };
        assert_eq!(ivy_bridge.missing(), Some("LZCNT"));
        let no_leaf_7 = HostCpu { ebx_7: 0, ..EVERYTHING };
        assert_eq!(no_leaf_7.missing(), Some("BMI1"));
        let first_opteron = HostCpu { ecx: 0, ecx_extended: 0, ..EVERYTHING };
        assert_eq!(first_opteron.missing(), Some("SSSE3"));
    }
}
