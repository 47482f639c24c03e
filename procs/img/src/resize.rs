//! `resize`

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::outcome::Failure;
use bulkhead_block_layer::qcow2::{Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

use crate::cli;
use crate::disk::{Disk, Files, shut_after};
use crate::{seal, size};

/// `resize`
pub fn run(options: &cli::Resize) -> Result<ExitCode> {
    let files = Files::open(options.format, &options.file, &options.chain, false)?;
    seal::seal()?;
    let disk = files.disk(Options::WRITE)?;
    let size = wanted(&options.size, disk.size()).and_then(|size| allowed(size, &disk, options));
    let size = match size {
        Ok(size) => size,
        Err(refusal) => {
            disk.finish()?;
            return Err(refusal);
        }
    };
    match disk {
        Disk::Raw { file, .. } => file.set_len(size)?,
        Disk::Qcow2(image) => shut_after(&image, || grow_or_shrink(&image, size))?,
    }
    if !options.quiet {
        println!("Image resized.");
    }
    Ok(ExitCode::SUCCESS)
}

fn allowed(size: u64, disk: &Disk, options: &cli::Resize) -> Result<u64> {
    let size = size.next_multiple_of(512);
    if size < disk.size() && !options.shrink {
        bail!("{size} bytes would cut data off; add --shrink if that is meant");
    }
    Ok(size)
}

fn grow_or_shrink(image: &Qcow2<Plain>, size: u64) -> Result<()> {
    finish(image.resize(size)).map_err(|failure| match failure {
        Failure::TOO_LARGE => anyhow::anyhow!(
            "{size} bytes are too many for clusters of {} bytes; convert the image instead",
            image.cluster_size()
        ),
        Failure::UNSUPPORTED => anyhow::anyhow!(
            "a version 2 image with snapshots or a longer backing file keeps its size; \
             amend it with compat=1.1"
        ),
        failure => failure.into(),
    })
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
