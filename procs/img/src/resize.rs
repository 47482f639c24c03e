//! `resize`

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::outcome::Failure;
use bulkhead_block_layer::qcow2::Options;
use bulkhead_block_layer::task::finish;

use crate::cli;
use crate::disk::{Disk, Files};
use crate::{seal, size};

/// `resize`
pub fn run(options: &cli::Resize) -> Result<ExitCode> {
    let files = Files::open(options.format, &options.file, &options.chain, false)?;
    seal::seal()?;
    let disk = files.disk(Options::WRITE)?;
    let size = wanted(&options.size, disk.size())?.next_multiple_of(512);
    if size < disk.size() && !options.shrink {
        bail!("{size} bytes would cut data off; add --shrink if that is meant");
    }
    match disk {
        Disk::Raw { file, .. } => file.set_len(size)?,
        Disk::Qcow2(image) => finish(image.resize(size)).map_err(|failure| match failure {
            Failure::TOO_LARGE => anyhow::anyhow!(
                "the image's L1 table has no room for {size} bytes; convert the image instead"
            ),
            Failure::UNSUPPORTED => anyhow::anyhow!("an image with snapshots cannot shrink"),
            failure => failure.into(),
        })?,
    }
    if !options.quiet {
        println!("Image resized.");
    }
    Ok(ExitCode::SUCCESS)
}

/// The size, or the difference to the size there is.
fn wanted(text: &str, now: u64) -> Result<u64> {
    let parse = |text: &str| size::parse(text).map_err(anyhow::Error::msg);
    let wanted = match text.split_at_checked(1) {
        Some(("+", more)) => now.checked_add(parse(more)?),
        Some(("-", less)) => now.checked_sub(parse(less)?),
        _ => Some(parse(text)?),
    };
    wanted.with_context(|| format!("'{text}' is no size for a disk of {now} bytes"))
}
