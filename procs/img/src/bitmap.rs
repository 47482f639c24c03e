//! `bitmap`: the persistent bitmaps of an image.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bulkhead_protocol::tool::{BitmapChange, ToolCommand};

use crate::cli::kept::Bitmap;
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::tool::Front;

/// `bitmap`
pub fn run(options: &Bitmap, front: &mut Front) -> Result<ExitCode> {
    let changes = changes(options)?;
    let disk = Disk::alone(options.format, &options.file, Access::WRITE)?;
    let open = |path: &_| Disk::alone(options.source_format, path, Access::READ);
    let source = options.source.as_deref().map(open).transpose()?;
    let command = ToolCommand::Bitmap {
        disk: disk.plan.clone(),
        source: source.as_ref().map(|source| source.plan.clone()),
        name: options.name.clone(),
        changes,
    };
    front.run(command, &files(std::iter::once(&disk).chain(&source)), |_| Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

/// What is asked for. A new bitmap is made first, as it is to be at once, so that nothing is recorded in
/// between; one that goes goes last, wherever the options stand.
fn changes(options: &Bitmap) -> Result<Vec<BitmapChange>> {
    let Bitmap { add, remove, clear, enable, disable, granularity, .. } = *options;
    if enable && disable {
        bail!("--enable and --disable exclude each other");
    }
    if granularity.is_some() && !add {
        bail!("-g needs --add");
    }
    if options.source.is_some() && options.merge.is_empty() {
        bail!("-b needs --merge");
    }
    let wanted = [
        (add, BitmapChange::Add { granularity, enabled: !disable }),
        (clear, BitmapChange::Clear),
        (enable, BitmapChange::Enable(true)),
        (disable, BitmapChange::Enable(false)),
    ];
    let wanted = wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, change)| change);
    let merged = options.merge.iter().cloned().map(BitmapChange::Merge);
    let removed = remove.then_some(BitmapChange::Remove);
    let changes: Vec<_> = wanted.chain(merged).chain(removed).collect();
    if changes.is_empty() {
        bail!("say what to do: --add, --remove, --clear, --enable, --disable or --merge");
    }
    Ok(changes)
}
