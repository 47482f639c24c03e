//! Disks and jobs as tables and as JSON.

use std::process::ExitCode;

use anyhow::bail;
use bulkhead_protocol::block::{JobStatus, LayerFormat};
use bulkhead_protocol::block_control::{BlockRequest, BlockResponse, DiskState, JobState};

use super::ask;
use super::cli::{DiskOf, Listing};
use crate::refusal::refuse;

/// `bulkhead block query`
pub fn disks(listing: &Listing) -> anyhow::Result<ExitCode> {
    let disks = query(&listing.name)?;
    if listing.json {
        println!("{}", serde_json::to_string_pretty(&disks)?);
        return Ok(ExitCode::SUCCESS);
    }
    for disk in &disks {
        print!("{}", described(disk));
    }
    Ok(ExitCode::SUCCESS)
}

/// `bulkhead block jobs`
pub fn jobs(listing: &Listing) -> anyhow::Result<ExitCode> {
    let BlockResponse::Jobs(jobs) = ask(&listing.name, BlockRequest::Jobs)? else {
        bail!("{}: its control process cannot be understood", listing.name);
    };
    if listing.json {
        println!("{}", serde_json::to_string_pretty(&jobs)?);
    } else {
        jobs.iter().for_each(|job| println!("{}", job_line(job)));
    }
    Ok(ExitCode::SUCCESS)
}

/// `bulkhead block internal-snapshot list`
pub fn snapshots(of: &DiskOf) -> anyhow::Result<ExitCode> {
    let disks = query(&of.name)?;
    let Some(disk) = disks.iter().find(|disk| disk.disk == of.disk) else {
        let remedy = "see 'bulkhead block query'";
        return Err(refuse("ID", &of.disk, "there is no such disk of an image", remedy));
    };
    disk.snapshots.iter().for_each(|snapshot| println!("{snapshot}"));
    Ok(ExitCode::SUCCESS)
}

fn query(name: &str) -> anyhow::Result<Vec<DiskState>> {
    match ask(name, BlockRequest::Query)? {
        BlockResponse::Disks(disks) => Ok(disks),
        _ => bail!("{name}: its control process cannot be understood"),
    }
}

fn described(disk: &DiskState) -> String {
    let serving = if disk.serving { "" } else { ", its block layer is being replaced" };
    let mut text = format!("{}: {} bytes{serving}\n", disk.disk, disk.size);
    for (depth, layer) in disk.layers.iter().enumerate() {
        let format = match layer.format {
            LayerFormat::Raw => "raw",
            LayerFormat::Qcow2 => "qcow2",
            LayerFormat::Luks => "luks",
        };
        let (path, allocated) = (layer.path.display(), layer.allocated);
        text +=
            &format!("  {:1$}{path} ({format}, {allocated} bytes on the host)\n", "", depth * 2);
    }
    for bitmap in &disk.bitmaps {
        let recording = if bitmap.recording { "records" } else { "does not record" };
        let kept = if bitmap.persistent { ", kept in the image" } else { "" };
        let (name, dirty, granularity) = (&bitmap.name, bitmap.dirty, bitmap.granularity);
        text += &format!(
            "  bitmap {name}: {dirty} bytes dirty, {recording}, {granularity} bytes a bit{kept}\n"
        );
    }
    for snapshot in &disk.snapshots {
        text += &format!("  internal snapshot {snapshot}\n");
    }
    for job in &disk.jobs {
        text += &format!("  job {}\n", job_line(job));
    }
    text
}

fn job_line(job: &JobState) -> String {
    let report = &job.report;
    let (name, kind, disk) = (&report.job, &report.kind, &job.disk);
    let (offset, len, status) = (report.offset, report.len, status(report.status));
    let error = report.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    format!("{name}: {kind} of {disk}, {offset} of {len} bytes, {status}{error}")
}

/// A status by its name.
pub const fn status(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Created => "created",
        JobStatus::Running => "running",
        JobStatus::Paused => "paused",
        JobStatus::Ready => "ready",
        JobStatus::Standby => "standby",
        JobStatus::Pending => "pending",
        JobStatus::Aborting => "aborting",
        JobStatus::Concluded => "concluded",
    }
}
