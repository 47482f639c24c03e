//! `bulkhead block …`: disks, their files and the jobs on them, while they are served.
//!
//! Each subcommand becomes one request to the instance's control process; `--wait` asks for the job until it
//! has ended. Exit codes: 0 as asked, 1 it failed on the way, 2 it was refused.

pub mod cli;
mod export;
mod files;
mod job;
mod show;

use std::process::ExitCode;

use anyhow::bail;
use bulkhead_protocol::block_control::{
    BitmapAction, BlockRequest, BlockResponse, InternalAction, JobAction, OverlaySpec,
};
use bulkhead_protocol::control::{Request, Response};

use crate::instance::Client;
use crate::options::keyed::Keyed;
use crate::options::{bytes, disk, small_bytes};
use crate::refusal::{Refused, refuse};
use cli::{
    BitmapCommand, BitmapOf, BlockCommand, BlockOptions, DiskOf, InternalCommand, JobCommand,
    JobOf, SnapshotOptions, ThrottleOptions,
};

/// Runs a subcommand.
pub fn run(options: BlockOptions) -> anyhow::Result<ExitCode> {
    match options.command {
        BlockCommand::Query(listing) => show::disks(&listing),
        BlockCommand::Jobs(listing) => show::jobs(&listing),
        BlockCommand::Snapshot(options) => snapshot(&options),
        BlockCommand::Stream(options) => job::stream(options),
        BlockCommand::Commit(options) => job::commit(options),
        BlockCommand::Mirror(options) => job::mirror(options),
        BlockCommand::Backup(options) => job::backup(options),
        BlockCommand::Job(command) => act(command),
        BlockCommand::Bitmap(command) => bitmap(command),
        BlockCommand::InternalSnapshot(command) => internal(command),
        BlockCommand::Export(command) => export::run(command),
        BlockCommand::Resume(of) => order(&of.name, BlockRequest::Resume { disk: of.disk }),
        BlockCommand::Resize { disk: DiskOf { name, disk }, size } => {
            order(&name, BlockRequest::Resize { disk, size: bytes("SIZE", &size)? })
        }
        BlockCommand::Throttle(options) => throttle(options),
    }
}

/// Asks the instance `name`; a refusal is an error.
fn ask(name: &str, request: BlockRequest) -> anyhow::Result<BlockResponse> {
    if let Err(malformed) = request.check() {
        return Err(refuse("block", name, malformed.to_string(), "see 'bulkhead block --help'"));
    }
    match Client::connect(name)?.ask(&Request::Block(Box::new(request)))?.0 {
        Response::Block(BlockResponse::Refused(refusal)) => Err(Refused(refusal).into()),
        Response::Block(response) => Ok(response),
        Response::Refused(reason) => bail!("{name}: {reason}"),
        _ => bail!("{name}: its control process cannot be understood"),
    }
}

fn order(name: &str, request: BlockRequest) -> anyhow::Result<ExitCode> {
    ask(name, request)?;
    Ok(ExitCode::SUCCESS)
}

fn snapshot(options: &SnapshotOptions) -> anyhow::Result<ExitCode> {
    let overlay = |text: &String| {
        let (disk, rest) = text.split_once(',').unwrap_or((text, ""));
        if disk.contains('=') || rest.is_empty() {
            let remedy = "write ID,path=FILE";
            return Err(refuse("--disk", text, "a disk and its new file are wanted", remedy));
        }
        Ok(OverlaySpec { disk: disk.to_owned(), file: files::overlay("--disk", rest)? })
    };
    let overlays = options.disks.iter().map(overlay).collect::<anyhow::Result<_>>()?;
    order(&options.name, BlockRequest::Snapshot(overlays))
}

fn act(command: JobCommand) -> anyhow::Result<ExitCode> {
    let (JobOf { name, job }, action) = match command {
        JobCommand::Pause(of) => (of, JobAction::Pause),
        JobCommand::Resume(of) => (of, JobAction::Resume),
        JobCommand::Cancel(of) => (of, JobAction::Cancel),
        JobCommand::Complete(of) => (of, JobAction::Complete),
        JobCommand::Dismiss(of) => (of, JobAction::Dismiss),
        JobCommand::SetSpeed { of, speed } => (of, JobAction::SetSpeed(bytes("SIZE", &speed)?)),
    };
    order(&name, BlockRequest::Job { job, action })
}

fn bitmap(command: BitmapCommand) -> anyhow::Result<ExitCode> {
    let (BitmapOf { disk: of, bitmap }, action) = match command {
        BitmapCommand::Add { of, granularity, persistent, disabled } => {
            let granularity = granularity.map(|text| small_bytes("--granularity", &text));
            let granularity = granularity.transpose()?.unwrap_or(0);
            (of, BitmapAction::Add { granularity, persistent, disabled })
        }
        BitmapCommand::Remove(of) => (of, BitmapAction::Remove),
        BitmapCommand::Clear(of) => (of, BitmapAction::Clear),
        BitmapCommand::Enable(of) => (of, BitmapAction::Enable),
        BitmapCommand::Disable(of) => (of, BitmapAction::Disable),
        BitmapCommand::Merge { of, others } => (of, BitmapAction::Merge(others)),
    };
    order(&of.name, BlockRequest::Bitmap { disk: of.disk, bitmap, action })
}

fn internal(command: InternalCommand) -> anyhow::Result<ExitCode> {
    let (disk, snapshot, action) = match command {
        InternalCommand::Create { disk, snapshot } => (disk, snapshot, InternalAction::Create),
        InternalCommand::Apply { disk, snapshot } => (disk, snapshot, InternalAction::Apply),
        InternalCommand::Delete { disk, snapshot } => (disk, snapshot, InternalAction::Delete),
        InternalCommand::List(disk) => return show::snapshots(&disk),
    };
    let request = BlockRequest::InternalSnapshot { disk: disk.disk, snapshot, action };
    order(&disk.name, request)
}

fn throttle(options: ThrottleOptions) -> anyhow::Result<ExitCode> {
    let mut keyed = Keyed::parse("throttle", &options.limits, &[disk::LIMIT_KEYS])?;
    let mut limits = disk::limits(&mut keyed, "")?;
    for (key, all) in [
        ("bps", &mut limits.bytes.average),
        ("bps-max", &mut limits.bytes.burst),
        ("iops", &mut limits.requests.average),
        ("iops-max", &mut limits.requests.burst),
    ] {
        if let Some(text) = keyed.value(key)? {
            *all = bytes(key, &text)?;
        }
    }
    order(&options.disk.name, BlockRequest::Throttle { disk: options.disk.disk, limits })
}
