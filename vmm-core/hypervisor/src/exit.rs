//! Why a vCPU stopped executing, in words that no engine owns.

use crate::debug::DebugStop;

/// Why [`Vcpu::run`](crate::Vcpu::run) returned.
///
/// `data` of the port variants holds one or more accesses of `width` bytes each to the same port (a
/// repeated string instruction). All addresses, widths and bytes are the guest's.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// Reads from a port; fill in `data`.
    PioIn {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        width: u8,
        /// To be filled in, one access after the other.
        data: &'a mut [u8],
    },
    /// Writes to a port.
    PioOut {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        width: u8,
        /// What was written, one access after the other.
        data: &'a [u8],
    },
    /// A read from an address where no RAM is; fill in `data` (1 to 8 bytes).
    MmioRead {
        /// Guest-physical address of the first byte.
        address: u64,
        /// To be filled in.
        data: &'a mut [u8],
    },
    /// A write to an address where no RAM is (1 to 8 bytes).
    MmioWrite {
        /// Guest-physical address of the first byte.
        address: u64,
        /// What was written.
        data: &'a [u8],
    },
    /// The guest ended a level-triggered interrupt of this vector.
    Eoi(u8),
    /// All vCPUs are halted or were never started, and no interrupt will wake one. KVM, whose local APICs
    /// are in the kernel, never tells.
    Hlt,
    /// What a debugger waits for.
    Debug(DebugStop),
    /// A triple fault.
    Shutdown,
    /// The guest told the engine that it crashed or wants to go away (`KVM_SYSTEM_EVENT_*`).
    SystemEvent(u32),
    /// A kick or a signal ended the run; nothing to do for the guest.
    Interrupted,
    /// The processor refused the guest's state.
    FailEntry {
        /// The processor's reason.
        reason: u64,
        /// The host CPU that refused.
        cpu: u32,
    },
    /// The engine could not emulate what the guest did.
    InternalError {
        /// The engine's own number for it (`KVM_INTERNAL_ERROR_*`).
        code: u32,
    },
    /// A reason that this project never asks an engine for.
    Unexpected(u32),
}
