//! `rebase`: another backing file, or with `-u` only another name of it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::tool::ToolCommand;

use crate::chain;
use crate::cli::chain::Rebase;
use crate::cli::{Chain, Format, Share};
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::tool::Front;

/// `rebase`
pub fn run(options: &Rebase, front: &mut Front) -> Result<ExitCode> {
    front.show_progress(options.progress && !options.quiet);
    let name = Some(options.backing_name.as_str()).filter(|name| !name.is_empty());
    let named = match (name, options.backing_format) {
        (Some(_), None) => bail!("a backing file needs its format; add -F FORMAT"),
        (Some(name), Some(format)) => Some((name, format)),
        (None, _) => None,
    };
    let share = Share::default();
    let chain = chain::of(&options.chain, options.format, &options.file, share, front)?;
    let disk = Disk::open(options.format, &options.file, &chain, Access::WRITE)?;
    let new = match named.filter(|_| !options.no_check) {
        Some((name, format)) => Some(open_new(options, name, format)?),
        None => None,
    };
    let command = ToolCommand::Rebase {
        disk: disk.plan.clone(),
        new: new.as_ref().map(|new| new.plan.clone()),
        named: named.map(|(name, format)| (name.to_owned(), format.name().to_owned())),
        only_name: options.no_check,
    };
    front.run(command, &files(std::iter::once(&disk).chain(&new)), |_| Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

/// The new backing file, which is named relative to the image.
fn open_new(options: &Rebase, name: &str, format: Format) -> Result<Disk> {
    let folder = options.file.parent().unwrap_or(Path::new(""));
    let chain = Chain { backing: options.new_backing.clone(), ..Chain::default() };
    let disk = Disk::open(format, &folder.join(name), &chain, Access::READ);
    disk.context("the new backing file")
}
