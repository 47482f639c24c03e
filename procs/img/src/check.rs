//! `check`. Exit codes as qemu-img's: 0 nothing is wrong, 1 it could not be checked, 2 errors, 3 leaks.

use std::process::ExitCode;

use anyhow::{Context, Result};
use bulkhead_protocol::tool::{CheckFacts, Repair, ToolCommand, ToolEvent};
use serde_json::json;

use crate::cli::Output;
use crate::cli::image::{self, Check};
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::out::{clean, complaint, line};
use crate::tool::Front;

/// `check`
pub fn run(options: &Check, front: &mut Front) -> Result<ExitCode> {
    let (repair, access) = match options.repair {
        None => (Repair::Nothing, Access::reading(options.share.force_share)),
        Some(image::Repair::Leaks) => (Repair::Leaks, Access::WRITE),
        Some(image::Repair::All) => (Repair::All, Access::WRITE),
    };
    let disk = Disk::alone(options.format, &options.file, access)?;
    let mut checked = None;
    let command = ToolCommand::Check { disk: disk.plan.clone(), repair };
    front.run(command, &files([&disk]), |event| {
        match event {
            // As qemu-img does: what is printed for programs stays whole.
            ToolEvent::Finding(finding) if !options.quiet => complaint(clean(&finding))?,
            ToolEvent::Checked(facts) => checked = Some(facts),
            _ => {}
        }
        Ok(())
    })?;
    let facts = checked.context("nothing came of the check")?;
    match options.output {
        _ if options.quiet => {}
        Output::Json => print_json(&facts, options)?,
        Output::Human => print_for_people(&facts)?,
    }
    Ok(match (facts.corruptions, facts.leaks) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(3),
        _ => ExitCode::from(2),
    })
}

fn print_json(facts: &CheckFacts, options: &Check) -> Result<()> {
    let mut value = json!({
        "image-end-offset": facts.image_end,
        "total-clusters": facts.total,
        "check-errors": 0,
        "filename": options.file.display().to_string(),
        "format": "qcow2",
    });
    let counts = [
        ("allocated-clusters", facts.allocated),
        ("fragmented-clusters", facts.fragmented),
        ("compressed-clusters", facts.compressed),
        ("corruptions", facts.corruptions),
        ("leaks", facts.leaks),
        ("corruptions-fixed", facts.corruptions_fixed),
        ("leaks-fixed", facts.leaks_fixed),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        value[name] = json!(count);
    }
    Ok(line(serde_json::to_string_pretty(&value)?)?)
}

fn print_for_people(facts: &CheckFacts) -> Result<()> {
    if facts.corruptions_fixed + facts.leaks_fixed > 0 {
        line("The following inconsistencies were found and repaired:\n")?;
        line(format_args!("    {} leaked clusters", facts.leaks_fixed))?;
        line(format_args!("    {} corruptions\n", facts.corruptions_fixed))?;
    }
    if facts.corruptions > 0 {
        line(format_args!("\n{} errors were found on the image.", facts.corruptions))?;
        line("Data may be corrupted, or further writes to the image may corrupt it.")?;
    }
    if facts.leaks > 0 {
        line(format_args!("\n{} leaked clusters were found on the image.", facts.leaks))?;
        line("This means waste of disk space, but no harm to data.")?;
    }
    if facts.corruptions == 0 && facts.leaks == 0 {
        line("No errors were found on the image.")?;
    }
    if facts.total > 0 && facts.allocated > 0 {
        let percent = |part: u64, of: u64| part as f64 * 100.0 / of.max(1) as f64;
        line(format_args!(
            "{}/{} = {:.2}% allocated, {:.2}% fragmented, {:.2}% compressed clusters",
            facts.allocated,
            facts.total,
            percent(facts.allocated, facts.total),
            percent(facts.fragmented, facts.allocated),
            percent(facts.compressed, facts.allocated)
        ))?;
    }
    Ok(line(format_args!("Image end offset: {}", facts.image_end))?)
}
