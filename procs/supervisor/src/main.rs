//! The supervisor's process: takes its orders, plans, starts its launcher, seals itself, lives.
//!
//! Started by the `bulkhead` command with the session's channel as descriptor 3.
#![forbid(unsafe_code)]

use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::session::{SessionCommand, SessionEvent};
use bulkhead_protocol::start::CHANNEL_FD;
use bulkhead_runtime::Start;
use bulkhead_supervisor::live::{Instance, Launcher, Session};
use bulkhead_supervisor::order::Order;
use bulkhead_supervisor::plan::Plan;
use bulkhead_supervisor::signals::Signals;
use bulkhead_sys::clock::Deadline;

/// How long the command may take to say what it wants, and to read what it is told.
const SESSION: Duration = Duration::from_secs(10);

fn main() {
    let start = Start::without_landlock(ProcessClass::Supervisor);
    let status = match run(start) {
        Ok(()) => 0,
        Err(error) => {
            bulkhead_runtime::log(&format!("bulkhead: supervisor: {error:#}"));
            1
        }
    };
    bulkhead_runtime::exit(status)
}

fn run(start: Start) -> anyhow::Result<()> {
    bulkhead_supervisor::host::prepare()?;
    let channel = Channel::from_fd(bulkhead_sys::inherited::take(CHANNEL_FD)?);
    let signals = Signals::take()?;
    let (command, fds) = channel.receive_by::<SessionCommand>(Deadline::after(SESSION))?;
    let Order { spec, dry_run, roots, terms } = Order::new(command, fds)?;
    let plan = match Plan::make(&spec, roots, dry_run) {
        Ok(plan) => plan,
        Err(refusal) => {
            return Ok(channel.send_by(
                &SessionEvent::Refused(refusal),
                &[],
                Deadline::after(SESSION),
            )?);
        }
    };
    if dry_run {
        return tell_plan(&channel, &plan);
    }
    let launcher = Launcher::start(&plan)?;
    let session = Session::new(channel, &terms);
    let mut instance = Instance::new(plan, launcher, session, signals, terms)?;
    instance.begin();
    if let Err(error) = start.seal_unreported() {
        instance.refuse_unsealed(&error);
    }
    instance.run();
    Ok(())
}

/// The plan in pieces that fit a message, then an empty one.
fn tell_plan(channel: &Channel, plan: &Plan) -> anyhow::Result<()> {
    let text = plan.to_string();
    let pieces = text.split_inclusive('\n').map(str::to_owned).chain([String::new()]);
    for piece in pieces {
        channel.send_by(&SessionEvent::Plan(piece), &[], Deadline::after(SESSION))?;
    }
    Ok(())
}
