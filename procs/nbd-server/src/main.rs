//! The nbd-server process: seal, plan, and then the server's loop.
#![forbid(unsafe_code)]

use std::hash::RandomState;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead_nbd_server::plan::{Live, PlanError};
use bulkhead_nbd_server::server::Server;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::nbd::{NbdCommand, NbdEvent};
use bulkhead_runtime::{Helper, RuntimeError, Start};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::Poller;

/// A spare waits for its plan as long as its predecessor lives.
const PLAN: Duration = Duration::from_secs(u32::MAX as u64);

fn main() {
    let start = Start::new(ProcessClass::NbdServer);
    match live(start) {
        Ok(()) => bulkhead_runtime::exit(0),
        Err(error) if matches!(error.downcast_ref(), Some(RuntimeError::Closed)) => {
            bulkhead_runtime::exit(0)
        }
        Err(error) => {
            bulkhead_runtime::log(&format!("nbd-server: {error:#}"));
            bulkhead_runtime::exit(1)
        }
    }
}

fn live(start: Start) -> Result<()> {
    let poller = Poller::new().context("epoll")?;
    // The keys of this thread's tables are drawn once, and afterwards there is nothing to draw from.
    std::hint::black_box(RandomState::new());
    let helper: Helper<NbdCommand, NbdEvent> = start.seal()?;
    let (NbdCommand::Plan(plan), fds) = helper.plan(Deadline::after(PLAN))? else {
        bail!("the supervisor's first command is no plan");
    };
    let live = match Live::open(*plan, fds) {
        Ok(live) => live,
        Err(PlanError::Tls(error)) => {
            helper.event(&NbdEvent::Refused { reason: error.to_string() })?;
            bail!("{error}");
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Server::new(helper, poller, live)?.run()?)
}
