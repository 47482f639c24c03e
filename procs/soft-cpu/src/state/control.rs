//! Control and debug registers and descriptor-table registers.

/// Bits of CR0.
#[allow(missing_docs, reason = "the manual's own names")]
pub mod cr0 {
    pub const PE: u64 = 1;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
}

/// Bits of CR4.
#[allow(missing_docs, reason = "the manual's own names")]
pub mod cr4 {
    pub const VME: u64 = 1;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const UMIP: u64 = 1 << 11;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
}

/// Bits of EFER.
#[allow(missing_docs, reason = "the manual's own names")]
pub mod efer {
    pub const SCE: u64 = 1;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

/// The control registers and EFER. CR8 is the local APIC's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Modes.
    pub cr0: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    /// Root of the page tables, and PCID.
    pub cr3: u64,
    /// Features switched on.
    pub cr4: u64,
    /// Long mode, no-execute, system calls.
    pub efer: u64,
}

impl Default for Control {
    /// As at power-on.
    fn default() -> Self {
        Self { cr0: cr0::ET | cr0::NW | cr0::CD, cr2: 0, cr3: 0, cr4: 0, efer: 0 }
    }
}

/// GDTR or IDTR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table {
    /// Linear address.
    pub base: u64,
    /// Last byte.
    pub limit: u16,
}

/// DR0–DR3, DR6, DR7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugRegisters {
    /// Breakpoint addresses.
    pub addresses: [u64; 4],
    /// What happened.
    pub status: u64,
    /// What is watched.
    pub control: u64,
}

impl Default for DebugRegisters {
    fn default() -> Self {
        Self { addresses: [0; 4], status: 0xffff_0ff0, control: 0x400 }
    }
}
