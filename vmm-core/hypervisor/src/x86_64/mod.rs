//! What is particular to x86-64: the state of a vCPU and the processor that guests see.

pub mod processor;
mod state;

pub use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
pub use state::{VcpuState, Xsave};
