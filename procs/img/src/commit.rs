//! `commit`: what an image has of its own goes into a backing file, and the image is empty afterwards.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::tool::ToolCommand;

use crate::chain;
use crate::cli::Share;
use crate::cli::chain::Commit;
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::out;
use crate::tool::Front;

/// `commit`
pub fn run(options: &Commit, front: &mut Front) -> Result<ExitCode> {
    front.show_progress(options.progress && !options.quiet);
    let share = Share::default();
    let chain = &chain::of(&options.chain, options.format, &options.file, share, front)?;
    let backing = &chain.backing;
    let base: u16 = match &options.base {
        None if backing.is_empty() => bail!("give the backing file with --backing FORMAT:PATH"),
        None => 1,
        Some(base) => {
            let mut numbered = backing.iter().zip(1..);
            let found = numbered.find(|((_, path), _)| path.as_os_str() == base.as_os_str());
            let (_, number) = found.with_context(|| {
                format!("-b {}: it is none of the files given with --backing", base.display())
            })?;
            number
        }
    };
    // Files between the image and the base keep what they have: the image can only be emptied if there
    // are none, or it would read as they do.
    let empties = options.base.is_none() && !options.keep;
    let (format, path) = (options.format, &options.file);
    let disk = Disk::open_onto(format, path, chain, Access::WRITE, Some(base))?;
    let command = ToolCommand::Commit { disk: disk.plan.clone(), base, empties };
    front.run(command, &files([&disk]), |_| Ok(()))?;
    if !options.quiet {
        out::line("Image committed.")?;
    }
    Ok(ExitCode::SUCCESS)
}
