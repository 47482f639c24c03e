//! The soft-cpu program on a host that seems to be older than it is: put in the place of the real one.
#![forbid(unsafe_code)]

#[path = "../../../../procs/soft-cpu/src/process.rs"]
mod process;

use bulkhead_soft_cpu::host_cpu::HostCpu;

fn main() {
    process::main(HostCpu::probe().without_aes());
}
