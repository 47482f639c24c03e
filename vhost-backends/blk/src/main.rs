//! The vhost-blk process: virtio-blk requests in, block-ring requests out.
//!
//! Its one argument is the number of queues: each has a thread, and no thread can be made after the
//! seal, before which no plan is there. What it does with requests is in the library.
#![forbid(unsafe_code)]

use std::time::Duration;

use bulkhead_backend_kit::{Crew, Process, ProcessError, leave};
use bulkhead_blk::Live;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::device::{BlkCommand, DeviceEvent};
use bulkhead_runtime::{Helper, Start};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::Poller;

/// A spare waits for its plan as long as its predecessor lives.
const PLAN: Duration = Duration::from_secs(u32::MAX as u64);

/// Most queues of a disk (`DevicePlan::queues`).
const MOST_QUEUES: usize = 16;

fn main() {
    let start = Start::new(ProcessClass::VhostBlk);
    leave(ProcessClass::VhostBlk, live(start));
}

fn live(start: Start) -> Result<(), ProcessError> {
    let threads = threads().map_err(ProcessError::Command)?;
    let poller = Poller::new()?;
    let crew = Crew::gather(threads - 1)?;
    let helper: Helper<BlkCommand, DeviceEvent> = start.seal()?;
    let (BlkCommand::Plan(plan), fds) = helper.plan(Deadline::after(PLAN))? else {
        return Err(ProcessError::Command("the first one is no plan".into()));
    };
    let opened = Live::open(&plan, fds);
    let Live { identity, table, queues, commands } =
        opened.map_err(|error| ProcessError::Command(error.to_string()))?;
    helper.ready()?;
    Process::new(helper, commands, identity, table, queues, crew, poller)?.run()
}

/// One thread for each queue; this one serves the first.
fn threads() -> Result<usize, String> {
    let argument = std::env::args().nth(1).ok_or("the number of queues is missing")?;
    match argument.parse() {
        Ok(threads) if (1..=MOST_QUEUES).contains(&threads) => Ok(threads),
        _ => Err(format!("{argument} is no number of queues")),
    }
}
