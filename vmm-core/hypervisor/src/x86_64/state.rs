//! Everything there is to know about one vCPU, in the layouts of `kvm-bindings`.
//!
//! Callers: `boot` writes the entry state into it, `core` keeps the state of power-on and puts it back
//! on a reset. Later also the form in which a vCPU is saved and migrated.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use kvm_bindings::{
    kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs,
    kvm_vcpu_events, kvm_xcrs,
};

/// One vCPU's state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct VcpuState {
    /// General registers, instruction pointer and flags.
    pub regs: kvm_regs,
    /// Segments, descriptor tables, control registers.
    pub sregs: kvm_sregs,
    /// x87, SSE and what else `XSAVE` saves.
    pub xsave: Xsave,
    /// Which of that is enabled; empty where the host has no `XSAVE`.
    pub xcrs: kvm_xcrs,
    /// Debug registers.
    pub debug: kvm_debugregs,
    /// Exceptions and interrupts on their way.
    pub events: kvm_vcpu_events,
    /// The local APIC's register page.
    pub lapic: kvm_lapic_state,
    /// Running, halted, or waiting for INIT.
    pub mp_state: kvm_mp_state,
    /// Model-specific registers of our table that this host has.
    pub msrs: Vec<kvm_msr_entry>,
}

/// The `XSAVE` area as far as the processor that we show to guests has state in it: 4 KiB hold
/// everything up to AVX-512, and AMX, which needs more, is hidden.
#[derive(Clone)]
pub struct Xsave(pub [u32; 1024]);

impl Serialize for Xsave {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_slice().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Xsave {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<u32>::deserialize(deserializer)?;
        let words = words.try_into().map_err(|_| D::Error::custom("an area of another size"))?;
        Ok(Self(words))
    }
}

impl Default for Xsave {
    fn default() -> Self {
        Self([0; 1024])
    }
}

impl std::fmt::Debug for Xsave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Xsave(..)")
    }
}
