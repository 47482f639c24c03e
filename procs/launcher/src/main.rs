//! The launcher: starts every child of an instance inside its jail.
//!
//! Filters survive fork and exec, so a sealed supervisor could start nobody who may do what it may
//! not. This small process is started by the supervisor before that one seals, with its channel as
//! descriptor 3 and the log pipe as descriptor 2; it clones with CLONE_PARENT, so that the supervisor
//! is the parent of every child and reaps it.
//!
//! Law: one thread, no data of a guest, no path from anybody: binaries and control groups come by
//! descriptor. It is itself sealed; it alone may clone, exec and mount.
//!
//! It cannot be number 1 of a pid namespace: such a process has no sibling.
#![forbid(unsafe_code)]

mod answer;
mod plan;
mod service;
mod tools;

use bulkhead_protocol::class::ProcessClass;
use bulkhead_runtime::{Start, exit, log};

fn main() {
    let start = Start::without_landlock(ProcessClass::Launcher);
    match run(start) {
        Ok(()) => exit(0),
        Err(error) => {
            log(&format!("launcher: {error:#}"));
            exit(1)
        }
    }
}

fn run(start: Start) -> anyhow::Result<()> {
    let tools = tools::Tools::gather()?;
    let service = service::Service::new(tools)?;
    start.seal_unreported()?;
    service.run()
}
