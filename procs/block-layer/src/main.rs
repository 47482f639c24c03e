//! The block-layer process: threads, seal, plan, and then the executor's loop.
//!
//! Its first argument is the number of queues it will be given; see [`bulkhead_protocol::block`]. With a
//! second one, `aio=N`, the first N of them have the kernel make direct transfers. Started as a block-tool, it serves nobody and does one command of `bulkhead-img` ([`tool`]).
#![forbid(unsafe_code)]

mod tool;

use std::hash::RandomState;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::executor::{Alive, Executor};
use bulkhead_block_layer::lane::Direct;
use bulkhead_protocol::block::{BlockCommand, BlockEvent};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_runtime::{Helper, Incoming, RuntimeError, Start};
use bulkhead_sys::clock::Deadline;

/// Calls in flight at a device whose requests block: a driver's usual depth. An idle worker costs a
/// page of stack.
const WORKERS: usize = 32;

/// Most queues a process may be asked for: sixteen exports of sixteen.
const MOST_LANES: usize = 256;

/// How long requests that are under way are waited for at the end.
const CLOSING: Duration = Duration::from_secs(1);

/// A spare waits for its plan as long as its predecessor lives; the supervisor's end is seen at once.
const PLAN_DEADLINE: Duration = Duration::from_secs(u32::MAX as u64);

fn main() {
    let is_tool = std::env::args().next().as_deref() == Some(ProcessClass::BlockTool.name());
    let class = if is_tool { ProcessClass::BlockTool } else { ProcessClass::BlockLayer };
    let start = Start::new(class);
    match if is_tool { tool::live(start) } else { live(start) } {
        Ok(()) => bulkhead_runtime::exit(0),
        Err(error) if is_end(&error) => bulkhead_runtime::exit(0),
        Err(error) => {
            bulkhead_runtime::log(&format!("{class}: {error:#}"));
            bulkhead_runtime::exit(1);
        }
    }
}

fn live(start: Start) -> Result<()> {
    let lanes = lanes()?;
    // Its threads must not end before the process: that takes calls which a sealed one has not, and an
    // ordinary end would look like an attack.
    let executor = Executor::start(lanes, WORKERS, direct(lanes)?).context("threads")?;
    let mut executor = ManuallyDrop::new(executor);
    // The keys of this thread's tables are drawn once, and afterwards there is nothing to draw from.
    std::hint::black_box(RandomState::new());
    let helper = start.seal()?;
    let ended = run(&mut executor, &helper);
    // The supervisor, or all of it, is gone: what was answered and not flushed need not be lost.
    executor.close(Deadline::after(CLOSING));
    ended
}

fn lanes() -> Result<usize> {
    let argument = std::env::args().nth(1).context("no number of queues was given")?;
    match argument.parse() {
        Ok(lanes) if (1..=MOST_LANES).contains(&lanes) => Ok(lanes),
        _ => bail!("{argument:?} is no number of queues"),
    }
}

/// What the first lanes have the kernel make direct transfers with. A host that has no more of it has threads.
fn direct(lanes: usize) -> Result<Vec<Direct>> {
    let Some(argument) = std::env::args().nth(2) else {
        return Ok(Vec::new());
    };
    let count: usize = match argument.strip_prefix("aio=").map(str::parse) {
        Some(Ok(count)) if count <= lanes => count,
        _ => bail!("{argument:?} is no number of queues with Linux AIO"),
    };
    let mut direct = Vec::new();
    for _ in 0..count {
        match Direct::new() {
            Ok(one) => direct.push(one),
            Err(error) => {
                bulkhead_runtime::log(&format!(
                    "block-layer: aio=native: {error}: threads instead (see fs.aio-max-nr)"
                ));
                break;
            }
        }
    }
    Ok(direct)
}

fn run(executor: &mut Executor, helper: &Helper<BlockCommand, BlockEvent>) -> Result<()> {
    let (plan, fds) = helper.plan(Deadline::after(PLAN_DEADLINE))?;
    executor.command(plan, fds)?;
    report(executor, helper)?;
    helper.ready()?;
    loop {
        while let Some(incoming) = helper.try_receive()? {
            match incoming {
                Incoming::Heartbeat(number) => executor.heartbeat(number),
                Incoming::Role(command, fds) => executor.command(command, fds)?,
                Incoming::Stop => return Ok(()),
            }
        }
        executor.read_mail();
        executor.pump();
        executor.due();
        report(executor, helper)?;
        executor.rest(helper.as_fd())?;
    }
}

fn report(executor: &mut Executor, helper: &Helper<BlockCommand, BlockEvent>) -> Result<()> {
    if let Some(Alive { number, progress }) = executor.alive() {
        helper.alive(number, progress)?;
    }
    if executor.progressed() {
        helper.progressed()?;
    }
    for event in executor.events() {
        helper.event(&event)?;
    }
    Ok(())
}

fn is_end(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(RuntimeError::Closed))
}
