//! The gdb process: seal, plan, and then one client after another.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_channel::{Channel, ChannelError};
use bulkhead_gdb::door::{Door, SUPERVISOR};
use bulkhead_gdb::fault::Fault;
use bulkhead_gdb::link::{Link, Supervisor};
use bulkhead_gdb::session;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::gdb::GdbCommand;
use bulkhead_protocol::start::Nothing;
use bulkhead_runtime::{Helper, RuntimeError, Start};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::{Interest, Poller};

/// The supervisor attests before it sends the plan; a start takes milliseconds.
const PLAN_DEADLINE: Duration = Duration::from_secs(30);

/// vCPUs that a machine may have.
const MOST_VCPUS: u8 = 16;

fn main() {
    let start = Start::new(ProcessClass::Gdb);
    let Err(error) = live(start);
    let is_end = |error: &RuntimeError| matches!(error, RuntimeError::Closed);
    let ended = match error.downcast_ref() {
        Some(Fault::Supervisor(error)) => is_end(error),
        Some(fault) => matches!(fault, Fault::Core(ChannelError::Closed)),
        None => error.downcast_ref().is_some_and(is_end),
    };
    if ended {
        bulkhead_runtime::exit(0);
    }
    bulkhead_runtime::log(&format!("gdb: {error:#}"));
    bulkhead_runtime::exit(1);
}

fn live(start: Start) -> Result<std::convert::Infallible> {
    let poller = Poller::new().context("epoll")?;
    let helper: Helper<GdbCommand, Nothing> = start.seal()?;
    let (GdbCommand::Plan { vcpus }, fds) = helper.plan(Deadline::after(PLAN_DEADLINE))?;
    ensure!((1..=MOST_VCPUS).contains(&vcpus), "a plan for {vcpus} vCPUs");
    let mut fds = fds.into_iter();
    let listener = fds.next().context("no listening socket came")?;
    let core = Channel::from_fd(fds.next().context("no channel to core came")?);
    poller.add(&helper, SUPERVISOR, Interest::Read).context("epoll")?;
    helper.ready()?;
    let mut link = Link::new(core, vcpus, Supervisor::from(helper));
    let mut door = Door::new(listener, &poller)?;
    loop {
        let client = door.next(&mut link)?;
        session::serve(client, &poller, &mut link)?;
    }
}
