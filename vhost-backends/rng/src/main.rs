//! The vhost-rng process: entropy for the guest.
//!
//! It holds a vhost-user socket and guest memory, and may ask the kernel for random bytes; it holds
//! nothing else. What it does with requests is in [`device`].
#![forbid(unsafe_code)]

mod device;

use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_backend_kit::{
    Crew, Identity, InflightTable, Instruction, Process, ProcessError, Role, leave,
};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::device::{DeviceEvent, RngCommand};
use bulkhead_runtime::{Helper, Start};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::Poller;

use device::Rng;

/// A spare waits for its plan as long as its predecessor lives.
const PLAN: Duration = Duration::from_secs(u32::MAX as u64);

fn main() {
    let start = Start::new(ProcessClass::VhostRng);
    leave(ProcessClass::VhostRng, live(start));
}

fn live(start: Start) -> Result<(), ProcessError> {
    let poller = Poller::new()?;
    let crew = Crew::gather(0)?;
    let helper: Helper<RngCommand, DeviceEvent> = start.seal()?;
    let (RngCommand::Plan { queues }, mut fds) = helper.plan(Deadline::after(PLAN))? else {
        return Err(ProcessError::Command("the first one is no plan".into()));
    };
    let Some(table) = fds.pop() else {
        return Err(ProcessError::Command("the plan came without its in-flight table".into()));
    };
    let table = InflightTable::map(queues, table)?;
    let identity = Identity { features: 0, config: Vec::new() };
    helper.ready()?;
    Process::new(helper, Commands, identity, table, vec![Rng::default()], crew, poller)?.run()
}

/// Understands the supervisor.
struct Commands;

impl Role for Commands {
    type Command = RngCommand;
    type Device = Rng;

    fn understand(
        &mut self,
        command: RngCommand,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Vec<Instruction<device::NoOrder>>, String> {
        match (command, fds.pop()) {
            (RngCommand::Connection, Some(socket)) => Ok(vec![Instruction::Connect(socket)]),
            _ => Err("a second plan, or a connection without its socket".into()),
        }
    }
}
