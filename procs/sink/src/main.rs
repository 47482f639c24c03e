//! The sink process: seal, plan, and then a loop over device, viewers and supervisor.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::sink::SinkCommand;
use bulkhead_protocol::start::Nothing;
use bulkhead_runtime::{Helper, Incoming, RuntimeError, Start};
use bulkhead_sink::keeper::Keeper;
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::{Interest, Poller, Token};

/// The supervisor attests before it sends the plan; a start takes milliseconds.
const PLAN_DEADLINE: Duration = Duration::from_secs(30);

/// The supervisor's token.
const SUPERVISOR: Token = 0;

fn main() {
    let start = Start::new(ProcessClass::Sink);
    let Err(error) = live(start);
    if matches!(error.downcast_ref(), Some(RuntimeError::Closed)) {
        bulkhead_runtime::exit(0);
    }
    bulkhead_runtime::log(&format!("sink: {error:#}"));
    bulkhead_runtime::exit(1);
}

fn live(start: Start) -> Result<Infallible> {
    let poller = Poller::new().context("epoll")?;
    let helper: Helper<SinkCommand, Nothing> = start.seal()?;
    let (plan, mut fds) = helper.plan(Deadline::after(PLAN_DEADLINE))?;
    let (SinkCommand::Plan { history }, Some(stream)) = (plan, fds.pop()) else {
        bail!("the first command was no plan");
    };
    poller.add(&helper, SUPERVISOR, Interest::Read).context("epoll")?;
    let mut keeper = Keeper::new(poller, stream, history as usize).context("the stream")?;
    helper.ready()?;
    let mut news = Vec::new();
    loop {
        while let Some(incoming) = helper.try_receive()? {
            match incoming {
                Incoming::Heartbeat(number) => helper.alive(number, keeper.seen())?,
                Incoming::Role(command, fds) => obey(&mut keeper, command, fds)?,
                Incoming::Stop => return Err(RuntimeError::Closed.into()),
            }
        }
        keeper.show();
        news.clear();
        keeper.poller().wait(None, &mut news).context("epoll")?;
        news.iter().filter(|event| event.token != SUPERVISOR).for_each(|event| keeper.news(event));
    }
}

fn obey(keeper: &mut Keeper, command: SinkCommand, mut fds: Vec<OwnedFd>) -> Result<()> {
    match (command, fds.pop()) {
        (SinkCommand::Viewer, Some(socket)) => keeper.admit(socket),
        (SinkCommand::Stream, Some(stream)) => keeper.replace_stream(stream).context("a stream")?,
        _ => bail!("a second plan came"),
    }
    Ok(())
}
