//! `check`. Exit codes as qemu-img's: 0 nothing is wrong, 1 it could not be checked, 2 errors, 3 leaks.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bulkhead_block_layer::qcow2::Options;
use bulkhead_block_layer::qcow2::check::{Repair, Report};
use bulkhead_block_layer::task::finish;
use serde_json::json;

use crate::cli::{self, Chain, Output};
use crate::disk::{Disk, Files};
use crate::seal;

/// `check`
pub fn run(options: &cli::Check) -> Result<ExitCode> {
    let repair = match options.repair {
        None => Repair::Nothing,
        Some(cli::Repair::Leaks) => Repair::Leaks,
        Some(cli::Repair::All) => Repair::All,
    };
    let read_only = repair == Repair::Nothing;
    let files = Files::open(options.format, &options.file, &Chain::default(), read_only)?;
    seal::seal()?;
    let looking = Options { alone: true, repair: true, discard: false, ..Options::WRITE };
    let Disk::Qcow2(image) = files.disk(looking)? else {
        bail!("a raw image has nothing to check");
    };
    let report = finish(image.check(repair))?;
    if !options.quiet {
        match options.output {
            Output::Json => print_json(&report, options)?,
            Output::Human => print_for_people(&report),
        }
    }
    Ok(match (report.corruptions, report.leaks) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(3),
        _ => ExitCode::from(2),
    })
}

fn print_json(report: &Report, options: &cli::Check) -> Result<()> {
    let mut facts = json!({
        "image-end-offset": report.image_end,
        "total-clusters": report.total,
        "check-errors": 0,
        "filename": options.file.display().to_string(),
        "format": "qcow2",
    });
    let counts = [
        ("allocated-clusters", report.allocated),
        ("fragmented-clusters", report.fragmented),
        ("compressed-clusters", report.compressed),
        ("corruptions", report.corruptions),
        ("leaks", report.leaks),
        ("corruptions-fixed", report.corruptions_fixed),
        ("leaks-fixed", report.leaks_fixed),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        facts[name] = json!(count);
    }
    println!("{}", serde_json::to_string_pretty(&facts)?);
    Ok(())
}

fn print_for_people(report: &Report) {
    for finding in &report.findings {
        println!("{finding}");
    }
    if report.corruptions_fixed + report.leaks_fixed > 0 {
        println!("The following inconsistencies were found and repaired:\n");
        println!("    {} leaked clusters", report.leaks_fixed);
        println!("    {} corruptions\n", report.corruptions_fixed);
    }
    if report.corruptions > 0 {
        println!("\n{} errors were found on the image.", report.corruptions);
        println!("Data may be corrupted, or further writes to the image may corrupt it.");
    }
    if report.leaks > 0 {
        println!("\n{} leaked clusters were found on the image.", report.leaks);
        println!("This means waste of disk space, but no harm to data.");
    }
    if report.corruptions == 0 && report.leaks == 0 {
        println!("No errors were found on the image.");
    }
    if report.total > 0 && report.allocated > 0 {
        let percent = |part: u64, of: u64| part as f64 * 100.0 / of.max(1) as f64;
        println!(
            "{}/{} = {:.2}% allocated, {:.2}% fragmented, {:.2}% compressed clusters",
            report.allocated,
            report.total,
            percent(report.allocated, report.total),
            percent(report.fragmented, report.allocated),
            percent(report.compressed, report.allocated)
        );
    }
    println!("Image end offset: {}", report.image_end);
}
