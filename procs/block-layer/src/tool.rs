//! A block-tool: one command of `bulkhead-img`, done in a process that is as sealed as the block layer that
//! serves disks, over files that were opened for it.
//!
//! ```text
//! hands ─▶ seal ─▶ command + files ─▶ work ─▶ Done or Failed ─▶ exit
//! ```
//!
//! Every command is a module with a function `run` that takes its part of the message and the files, works
//! without waiting for anyone, and tells what it finds as it finds it.
//!
//! Law: what an image says is believed only here. `Done` is said after everything that was written has
//! reached its file. Nothing here knows a path; who is to blame is the place of a file in the command.
//!
//! Absent on purpose: an executor and its lanes. One command has one user, who waits for it.

mod amend;
mod bench;
mod bitmap;
mod check;
mod commit;
mod compare;
mod convert;
mod copy;
mod course;
mod create;
mod dd;
mod disk;
mod files;
mod hands;
mod info;
mod joined;
mod map;
mod measure;
mod pack;
mod raw;
mod rebase;
mod report;
mod resize;
mod secret;
mod servers;
mod snapshot;
mod store;

use std::hash::RandomState;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::tool::{MOST_THREADS, ToolCommand};
use bulkhead_runtime::Start;
use bulkhead_sys::clock::Deadline;

use files::Files;
use hands::Hands;
use report::Report;

/// The command is there already, or its user is gone.
const PLAN_DEADLINE: Duration = Duration::from_secs(60);

/// The whole life of the process.
pub fn live(start: Start) -> Result<()> {
    let hands = Hands::make(threads()?).context("threads")?;
    // The keys of this thread's tables are drawn once, and afterwards there is nothing to draw from.
    std::hint::black_box(RandomState::new());
    let helper = start.seal()?;
    let (command, fds) = helper.plan(Deadline::after(PLAN_DEADLINE))?;
    let report = Report::new(helper);
    let done = obey(command, &mut Files::new(fds, hands.clone()), &hands, &report);
    let done = done.map_err(|error| match hands.servers().lost() {
        Some(reason) => error.context(format!("the server: {reason}")),
        None => error,
    });
    report.end(done)
}

fn threads() -> Result<usize> {
    let argument = std::env::args().nth(1).context("no number of threads was given")?;
    match argument.parse() {
        Ok(threads) if threads <= MOST_THREADS => Ok(threads),
        _ => bail!("{argument:?} is no number of threads of {}", ProcessClass::BlockTool),
    }
}

fn obey(command: ToolCommand, files: &mut Files, hands: &Hands, report: &Report) -> Result<()> {
    match command {
        ToolCommand::Create(image) => create::run(&image, files, report),
        ToolCommand::Info(disk) => info::run(&disk, files, report),
        ToolCommand::Check { disk, repair } => check::run(&disk, repair, files, report),
        ToolCommand::Map(disk) => map::run(&disk, files, report),
        ToolCommand::Convert(plan) => convert::run(*plan, files, hands, report),
        ToolCommand::Compare { first, second, strict } => {
            compare::run([&first, &second], strict, files, report)
        }
        ToolCommand::Resize { disk, size, shrink, preallocation } => {
            resize::run(&disk, size, shrink, preallocation, files)
        }
        ToolCommand::Measure { disk, snapshot, image } => {
            measure::run(disk.as_ref(), snapshot.as_deref(), &image, files, report)
        }
        ToolCommand::Snapshot { disk, action } => snapshot::run(&disk, &action, files, report),
        ToolCommand::Bitmap { disk, source, name, changes } => {
            bitmap::run(&disk, source.as_ref(), &name, &changes, files)
        }
        ToolCommand::Rebase { disk, new, named, only_name } => {
            rebase::run(&disk, new.as_ref(), named.as_ref(), only_name, files, report)
        }
        ToolCommand::Commit { disk, base, empties } => {
            commit::run(&disk, base, empties, files, report)
        }
        ToolCommand::Amend { disk, amendments } => amend::run(&disk, amendments, files),
        ToolCommand::Dd { source, target, skip, count } => {
            dd::run(&source, target, skip, count, files, hands, report)
        }
        ToolCommand::Bench { disk, plan } => bench::run(&disk, &plan, files, hands, report),
    }
}
