//! `bench`: the same request again and again, so many at a time, and how long that took.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bulkhead_protocol::tool::{BenchPlan, MOST_THREADS, ToolCommand, ToolEvent};

use crate::chain;
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
    if let Some(interval) = options.flush_interval.filter(|interval| *interval < options.depth) {
        bail!("--flush-interval={interval} is less than the depth of {}; give more", options.depth);
    }
    let access = Access {
        write: options.write,
        share: options.share.force_share && !options.write,
        direct: options.cache == Cache::None,
    };
    let chain = chain::of(&options.chain, options.format, &options.file, options.share, front)?;
    let disk = Disk::open(options.format, &options.file, &chain, access)?;
    let plan = BenchPlan {
        count: options.count,
        depth: options.depth,
        offset: options.offset,
        size: options.size,
        step: options.step.unwrap_or(options.size),
        write: options.write.then_some(options.pattern),
        flush_interval: options.flush_interval,
        careless: options.cache == Cache::Unsafe,
        direct: access.direct,
    };
    if !options.quiet {
        let BenchPlan { count, depth, offset, size, step, .. } = &plan;
        let what = if options.write { "write" } else { "read" };
        out::line(format_args!(
            "Sending {count} {what} requests, {size} bytes each, {depth} in parallel \
             (starting at offset {offset}, step size {step})"
        ))?;
        if let Some(interval) = plan.flush_interval {
            out::line(format_args!("Sending flush every {interval} requests"))?;
        }
    }
    // What the page cache has is read faster than it is given to another thread.
    let threads = if plan.direct { plan.depth.min(MOST_THREADS as u64) as usize } else { 0 };
    let command = ToolCommand::Bench { disk: disk.plan.clone(), plan };
    front.run_with(threads, command, &files([&disk]), |event| {
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
