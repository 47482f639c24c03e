//! `resize`

use std::process::ExitCode;

use anyhow::Result;
use bulkhead_protocol::tool::{Preallocation, SizeChange, ToolCommand};

use crate::chain;
use crate::cli::Share;
use crate::cli::image::{Reserve, Resize};
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::option::bytes;
use crate::out;
use crate::tool::Front;

/// `resize`
pub fn run(options: &Resize, front: &mut Front) -> Result<ExitCode> {
    let size = wanted(&options.size)?;
    let share = Share::default();
    let chain = chain::of(&options.chain, options.format, &options.file, share, front)?;
    let disk = Disk::open(options.format, &options.file, &chain, Access::WRITE)?;
    let command = ToolCommand::Resize {
        disk: disk.plan.clone(),
        size,
        shrink: options.shrink,
        preallocation: match options.preallocation {
            Reserve::Off => Preallocation::Off,
            Reserve::Falloc => Preallocation::Falloc,
            Reserve::Full => Preallocation::Full,
        },
    };
    front.run(command, &files([&disk]), |_| Ok(()))?;
    if !options.quiet {
        out::line("Image resized.")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The size, or the difference to the size there is.
fn wanted(text: &str) -> Result<SizeChange> {
    Ok(match text.split_at_checked(1) {
        Some(("+", more)) => SizeChange::More(bytes(more)?),
        Some(("-", less)) => SizeChange::Fewer(bytes(less)?),
        _ => SizeChange::To(bytes(text)?),
    })
}
