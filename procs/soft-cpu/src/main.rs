//! The soft-cpu program: the process, on this host's processor.
#![forbid(unsafe_code)]

mod process;

use bulkhead_soft_cpu::host_cpu::HostCpu;

fn main() {
    process::main(HostCpu::probe());
}
