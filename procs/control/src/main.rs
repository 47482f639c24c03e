//! The control process: seal, plan, and then a loop over clients and supervisor.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead_control::server::Server;
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::control::{FromSupervisor, ToSupervisor};
use bulkhead_runtime::{Helper, Incoming, RuntimeError, Start};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::poller::{Interest, Poller, Token};

/// The supervisor attests before it sends the plan; a start takes milliseconds.
const PLAN_DEADLINE: Duration = Duration::from_secs(30);

/// The supervisor's token.
const SUPERVISOR: Token = 0;

fn main() {
    let start = Start::new(ProcessClass::Control);
    let Err(error) = live(start);
    if matches!(error.downcast_ref(), Some(RuntimeError::Closed)) {
        bulkhead_runtime::exit(0);
    }
    bulkhead_runtime::log(&format!("control: {error:#}"));
    bulkhead_runtime::exit(1);
}

fn live(start: Start) -> Result<std::convert::Infallible> {
    let poller = Poller::new().context("epoll")?;
    let helper: Helper<FromSupervisor, ToSupervisor> = start.seal()?;
    let (plan, mut fds) = helper.plan(Deadline::after(PLAN_DEADLINE))?;
    let (FromSupervisor::Plan, Some(listener)) = (plan, fds.pop()) else {
        bail!("the first command was no plan");
    };
    poller.add(&helper, SUPERVISOR, Interest::Read).context("epoll")?;
    let mut server = Server::new(poller, listener).context("the listener")?;
    helper.ready()?;
    let mut news = Vec::new();
    loop {
        while let Some(incoming) = helper.try_receive()? {
            match incoming {
                Incoming::Heartbeat(number) => helper.alive(number, server.answered())?,
                Incoming::Role(FromSupervisor::Answer { call, response }, fds) => {
                    server.answer(call, &response, &fds);
                }
                Incoming::Role(FromSupervisor::Happened(event), _) => server.happened(event),
                Incoming::Role(FromSupervisor::Plan, _) => bail!("a second plan came"),
                Incoming::Stop => return Err(RuntimeError::Closed.into()),
            }
        }
        news.clear();
        server.poller().wait(server.patience(), &mut news).context("epoll")?;
        news.iter().filter(|event| event.token != SUPERVISOR).for_each(|event| server.news(event));
        server.expire();
        server.calls().iter().try_for_each(|call| helper.event(call))?;
    }
}
