//! What is particular to x86-64: the state of a vCPU and the processor that guests see.

mod state;

pub use state::VcpuState;
