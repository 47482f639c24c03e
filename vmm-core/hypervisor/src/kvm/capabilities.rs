//! What we ask of the host's KVM, each with the reason: checked once, before anything is made.

use kvm_ioctls::Cap;

use crate::error::EngineError;

/// Without any one of these no machine of ours runs. All are in every mainline kernel since 4.15.
const REQUIRED: &[(Cap, &str)] = &[
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY (guest RAM)"),
    (Cap::SplitIrqchip, "KVM_CAP_SPLIT_IRQCHIP (local APICs in the kernel, the IOAPIC in core)"),
    (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING (interrupt messages)"),
    (Cap::Irqfd, "KVM_CAP_IRQFD (interrupts from device processes)"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD (doorbells of device processes)"),
    (Cap::IoeventfdNoLength, "KVM_CAP_IOEVENTFD_NO_LENGTH (doorbells of device processes)"),
    (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI (interrupts from core)"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT (stopping vCPUs)"),
    (Cap::TscDeadlineTimer, "KVM_CAP_TSC_DEADLINE_TIMER (the guest's timer: there is no PIT)"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID (the guest's processor)"),
    (Cap::MpState, "KVM_CAP_MP_STATE (starting and resetting vCPUs)"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS (resetting vCPUs)"),
    (Cap::Debugregs, "KVM_CAP_DEBUGREGS (resetting vCPUs)"),
    (Cap::Xsave, "KVM_CAP_XSAVE (resetting vCPUs)"),
    (Cap::Xcrs, "KVM_CAP_XCRS (resetting vCPUs)"),
];

/// Names the first thing that is missing.
pub(super) fn check(kvm: &kvm_ioctls::Kvm) -> Result<(), EngineError> {
    match REQUIRED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, missing)) => Err(EngineError::Unsupported { missing }),
        None => Ok(()),
    }
}
