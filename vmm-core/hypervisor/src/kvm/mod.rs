//! The KVM engine: hardware virtualisation through the `/dev/kvm` descriptor that core was given.
//!
//! The interrupt controller is split: local APICs in the kernel, the IOAPIC ours. VM and vCPU
//! descriptors work only in the address space that made them, so core makes them itself.
//!
//! Absent on purpose: a PIT (some KVMs have none; guests use kvmclock, the TSC deadline and the ACPI
//! PM timer), an in-kernel IOAPIC or PIC, nested virtualisation.

mod capabilities;
mod debug;
mod decode;
pub mod kick;
pub mod probe;
mod routes;
mod vcpu;
mod vm;

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use bulkhead_memory::GuestMemory;

use crate::engine::{Hypervisor, Vm};
use crate::error::EngineError;

/// `KVM_API_VERSION`, frozen since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// An open `/dev/kvm` that can run our machines.
pub struct Kvm(kvm_ioctls::Kvm);

impl Kvm {
    /// Takes the descriptor and checks that everything a machine needs is there.
    pub fn from_fd(dev_kvm: OwnedFd) -> Result<Self, EngineError> {
        // SAFETY: the descriptor is owned and given up here. That it is /dev/kvm is checked next; on
        // anything else the ioctls below fail without effect.
        let kvm = unsafe { kvm_ioctls::Kvm::from_raw_fd(dev_kvm.into_raw_fd()) };
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(EngineError::NotKvm { version });
        }
        capabilities::check(&kvm)?;
        Ok(Self(kvm))
    }
}

impl Hypervisor for Kvm {
    fn create_vm(&self, memory: &GuestMemory) -> Result<Arc<dyn Vm>, EngineError> {
        Ok(Arc::new(vm::KvmVm::new(&self.0, memory)?))
    }
}
