//! The core process: vCPUs, guest memory, interrupt routing, and nothing else.
//!
//! ```text
//!  supervisor ◄──channel──► event loop (this thread) ◄── notices ── vCPU threads ◄── KVM
//!                             │  UART stream, vhost-user sockets       │ buses, devices
//!                             └────────────── board ───────────────────┘
//! ```
//!
//! Started by the launcher with the number of vCPUs as its only argument. Law: everything it will ever
//! hold comes by the channel; no thread is made after the seal; the event loop waits for nobody but
//! its own vCPU threads, and those leave the guest at once when kicked.
#![forbid(unsafe_code)]

mod board;
mod crew;
mod debugger;
mod device;
mod devices;
mod events;
mod gate;
mod life;
mod machine;
mod notice;
mod plan;
mod serial;
mod supervisor;
mod vcpu;

use anyhow::Context;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::core::{CoreCommand, CoreEvent};
use bulkhead_runtime::{RuntimeError, Start};
use bulkhead_sys::clock::Deadline;

fn main() {
    bulkhead_runtime::exit(match run() {
        Ok(()) => 0,
        Err(error) if matches!(error.downcast_ref(), Some(RuntimeError::Closed)) => 0,
        Err(error) => {
            bulkhead_runtime::log(&format!("core: {error:#}"));
            1
        }
    })
}

fn run() -> anyhow::Result<()> {
    let start = Start::new(ProcessClass::Core);
    bulkhead_machine::complaint::listen(bulkhead_runtime::log);
    bulkhead_hypervisor::kvm::kick::install().context("install the kick handler")?;
    let crew = crew::Crew::raise(plan::cpus_of_argument()?)?;
    let ears = events::Ears::new()?;
    let helper = start.seal::<CoreCommand, CoreEvent>()?;
    crew.seal();
    let (command, fds) = helper.plan(Deadline::after(plan::PATIENCE))?;
    let plan = plan::Plan::check(command, fds, crew.len())?;
    events::run(supervisor::Supervisor::new(helper), ears, crew, plan)
}
