//! Starting jobs, and waiting for them.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use bulkhead_protocol::block::{JobReport, JobStatus};
use bulkhead_protocol::block_control::{
    BlockRequest, BlockResponse, CopyMode, ErrorPolicy, Extent, JobAction, JobSpec, StartSpec,
};

use super::cli::{
    BackupOptions, CommitOptions, DiskOf, JobOptions, MirrorOptions, Mode, Policy, StreamOptions,
    Sync,
};
use super::{ask, files};
use crate::options::{bytes, small_bytes};

/// Between two looks at a job that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// `bulkhead block stream`
pub fn stream(options: StreamOptions) -> anyhow::Result<ExitCode> {
    let base = options.base.map(|base| files::absolute(&base)).transpose()?;
    let backing_file = options.backing_file;
    start(&options.disk, options.job, JobSpec::Stream { base, backing_file })
}

/// `bulkhead block commit`
pub fn commit(options: CommitOptions) -> anyhow::Result<ExitCode> {
    let top = options.top.map(|top| files::absolute(&top)).transpose()?;
    let base = options.base.map(|base| files::absolute(&base)).transpose()?;
    let backing_file = options.backing_file;
    start(&options.disk, options.job, JobSpec::Commit { top, base, backing_file })
}

/// `bulkhead block mirror`
pub fn mirror(options: MirrorOptions) -> anyhow::Result<ExitCode> {
    let granularity = options.granularity.map(|text| small_bytes("--granularity", &text));
    let kind = JobSpec::Mirror {
        target: files::target(&options.target)?,
        sync: extent(options.sync),
        granularity: granularity.transpose()?.unwrap_or(0),
        mode: match options.copy_mode {
            Mode::Background => CopyMode::Background,
            Mode::WriteBlocking => CopyMode::WriteBlocking,
        },
    };
    start(&options.disk, options.job, kind)
}

/// `bulkhead block backup`
pub fn backup(options: BackupOptions) -> anyhow::Result<ExitCode> {
    let target = files::target(&options.target)?;
    let (sync, bitmap) = (extent(options.sync), options.bitmap);
    start(&options.disk, options.job, JobSpec::Backup { target, sync, bitmap })
}

fn start(disk: &DiskOf, options: JobOptions, kind: JobSpec) -> anyhow::Result<ExitCode> {
    let speed = options.speed.map(|text| bytes("--speed", &text)).transpose()?.unwrap_or(0);
    let request = BlockRequest::Start(StartSpec {
        disk: disk.disk.clone(),
        job: options.job.unwrap_or_default(),
        speed,
        // Who waits wants to see how it ended.
        keep: options.keep || options.wait,
        on_source_error: policy(options.on_source_error),
        on_target_error: policy(options.on_target_error),
        kind,
    });
    let BlockResponse::Started(job) = ask(&disk.name, request)? else {
        bail!("{}: its control process cannot be understood", disk.name);
    };
    if !options.wait {
        println!("{job}");
        return Ok(ExitCode::SUCCESS);
    }
    let last = wait(&disk.name, &job)?;
    if !options.keep {
        let action = JobAction::Dismiss;
        ask(&disk.name, BlockRequest::Job { job: job.clone(), action })?;
    }
    match last.error {
        Some(reason) if last.status == JobStatus::Concluded => bail!("job {job}: {reason}"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Waits until the job has ended, or is ready and waits itself for what its user wants.
fn wait(name: &str, job: &str) -> anyhow::Result<JobReport> {
    let shown = std::io::stderr().is_terminal();
    loop {
        let BlockResponse::Jobs(jobs) = ask(name, BlockRequest::Jobs)? else {
            bail!("{name}: its control process cannot be understood");
        };
        let Some(state) = jobs.into_iter().find(|state| state.report.job == job) else {
            bail!("job {job}: somebody has dismissed it");
        };
        if shown {
            progress(&state.report);
        }
        let status = state.report.status;
        if matches!(status, JobStatus::Concluded | JobStatus::Ready | JobStatus::Standby) {
            if shown {
                eprintln!();
            }
            return Ok(state.report);
        }
        std::thread::sleep(LOOK);
    }
}

fn progress(report: &JobReport) {
    let JobReport { job, offset, len, status, .. } = report;
    let percent = if *len == 0 { 100.0 } else { *offset as f64 * 100.0 / *len as f64 };
    let status = super::show::status(*status);
    let line = format!("{job}: {percent:5.1} %  {} of {} MiB  {status}", offset >> 20, len >> 20);
    eprint!("\r{line:<70}");
    let _ = std::io::stderr().flush();
}

fn extent(sync: Sync) -> Extent {
    match sync {
        Sync::Full => Extent::Full,
        Sync::Top => Extent::Top,
        Sync::None => Extent::None,
        Sync::Incremental => Extent::Incremental,
        Sync::Bitmap => Extent::Bitmap,
    }
}

fn policy(policy: Policy) -> ErrorPolicy {
    match policy {
        Policy::Report => ErrorPolicy::Report,
        Policy::Ignore => ErrorPolicy::Ignore,
        Policy::Stop => ErrorPolicy::Stop,
        Policy::Enospc => ErrorPolicy::Enospc,
    }
}
