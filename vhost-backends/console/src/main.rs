//! The vhost-console process: virtio-console over one stream socket.
//!
//! Whose terminal, file or socket the bytes come from and go to is unknown here: this process holds
//! one end of a socket pair. What it does with requests is in [`device`].
#![forbid(unsafe_code)]

mod device;
mod stream;

use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_backend_kit::{Crew, InflightTable, Instruction, Process, ProcessError, Role, leave};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::device::{ConsoleCommand, DeviceEvent};
use bulkhead_runtime::{Helper, Start};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::Poller;

use device::Console;

/// A spare waits for its plan as long as its predecessor lives.
const PLAN: Duration = Duration::from_secs(u32::MAX as u64);

fn main() {
    let start = Start::new(ProcessClass::VhostConsole);
    leave(ProcessClass::VhostConsole, live(start));
}

fn live(start: Start) -> Result<(), ProcessError> {
    let poller = Poller::new()?;
    let crew = Crew::gather(0)?;
    let helper: Helper<ConsoleCommand, DeviceEvent> = start.seal()?;
    let (plan, fds) = helper.plan(Deadline::after(PLAN))?;
    let (ConsoleCommand::Plan { queues, columns, rows }, Ok([table, stream])) =
        (plan, <[OwnedFd; 2]>::try_from(fds))
    else {
        return Err(ProcessError::Command("the first one is no plan".into()));
    };
    let table = InflightTable::map(queues, table)?;
    let identity = device::identity(columns, rows);
    let device = Console::new(stream);
    helper.ready()?;
    Process::new(helper, Commands, identity, table, vec![device], crew, poller)?.run()
}

/// Understands the supervisor.
struct Commands;

impl Role for Commands {
    type Command = ConsoleCommand;
    type Device = Console;

    fn understand(
        &mut self,
        command: ConsoleCommand,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Vec<Instruction<device::NoOrder>>, String> {
        match (command, fds.pop()) {
            (ConsoleCommand::Connection, Some(socket)) => Ok(vec![Instruction::Connect(socket)]),
            (ConsoleCommand::Resize { columns, rows }, None) => {
                Ok(vec![Instruction::Config(device::identity(columns, rows).config)])
            }
            _ => Err("a second plan, or descriptors that do not belong to the command".into()),
        }
    }
}
