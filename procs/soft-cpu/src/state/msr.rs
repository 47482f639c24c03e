//! Model-specific registers that are plain storage or have a meaning to the processor.

/// Registers of our table (see `bulkhead_hypervisor::x86_64::processor`).
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the manual's own names")]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
    /// What is added to the host's time-stamp counter.
    pub tsc_offset: u64,
    pub tsc_adjust: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    pub mtrr_default: u64,
    pub mtrr_variable: [u64; 16],
    pub mtrr_fixed: [u64; 11],
    pub misc_enable: u64,
    pub spec_ctrl: u64,
    /// Guest-physical addresses of the paravirtual clock, and what was written last.
    pub wall_clock: u64,
    pub system_time: u64,
}
