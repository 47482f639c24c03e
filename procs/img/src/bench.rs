//! `bench`: the same request again and again, so many at a time, and how long that took.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bulkhead_protocol::tool::{BenchPlan, ToolCommand, ToolEvent};

use crate::cli::bench::{Bench, Cache};
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::out;
use crate::tool::Front;

/// `bench`
pub fn run(options: &Bench, front: &mut Front) -> Result<ExitCode> {
    if options.depth == 0 || options.size == 0 || options.count == 0 {
        bail!("-c, -d and -s must be at least 1");
    }
    let access = Access {
        write: options.write,
        share: options.share.force_share && !options.write,
        direct: options.cache == Cache::None,
    };
    let disk = Disk::open(options.format, &options.file, &options.chain, access)?;
    let plan = BenchPlan {
        count: options.count,
        depth: options.depth,
        offset: options.offset,
        size: options.size,
        step: options.step.unwrap_or(options.size),
        write: options.write.then_some(options.pattern),
        flush_interval: options.flush_interval,
        careless: options.cache == Cache::Unsafe,
    };
    if !options.quiet {
        let BenchPlan { count, depth, offset, size, step, .. } = &plan;
        let what = if options.write { "write" } else { "read" };
        out::line(format_args!(
            "Sending {count} {what} requests, {size} bytes each, {depth} in parallel \
             (starting at offset {offset}, step size {step})"
        ))?;
    }
    let command = ToolCommand::Bench { disk: disk.plan.clone(), plan };
    front.run(command, &files([&disk]), |event| {
        if let ToolEvent::Ran(nanoseconds) = event
            && !options.quiet
        {
            let seconds = nanoseconds as f64 / 1e9;
            out::line(format_args!("Run completed in {seconds:.3} seconds."))?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
