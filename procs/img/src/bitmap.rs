//! `bitmap`: the persistent bitmaps of an image. Several changes may be asked for, and are made in their
//! order; the first that fails ends it, as in qemu-img.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::bitmap::Bitmap;
use bulkhead_block_layer::qcow2::{BitmapError, Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

use crate::cli::{self, BitmapChange, Chain, Format};
use crate::disk::{Disk, Files, shut_after};
use crate::seal;

/// `bitmap`
pub fn run(options: &cli::Bitmap) -> Result<ExitCode> {
    let changes = options.changes()?;
    let adds = changes.iter().any(|change| matches!(change, BitmapChange::Add));
    let merges = changes.iter().any(|change| matches!(change, BitmapChange::Merge(_)));
    if options.granularity.is_some() && !adds {
        bail!("-g needs --add");
    }
    if options.source.is_some() && !merges {
        bail!("-b needs --merge");
    }
    let files = Files::open(options.format, &options.file, &Chain::default(), false)?;
    let open = |path| Files::open(options.source_format, path, &Chain::default(), true);
    let source = options.source.as_ref().map(|path| open(path)).transpose()?;
    seal::seal()?;
    let image = qcow2(files.disk(Options { alone: true, ..Options::WRITE })?)?;
    let source = source.map(|files| qcow2(files.disk(Options::LOOK)?)).transpose()?;
    let name = &options.name;
    shut_after(&image, || {
        for change in &changes {
            let done = make(&image, source.as_deref(), options, &changes, change);
            let what = change.name();
            done.with_context(|| format!("Operation {what} on bitmap {name} failed"))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn make(
    image: &Qcow2<Plain>,
    source: Option<&Qcow2<Plain>>,
    options: &cli::Bitmap,
    all: &[BitmapChange],
    change: &BitmapChange,
) -> Result<(), BitmapError> {
    let name = &options.name;
    match change {
        BitmapChange::Add => {
            // Made as it is to be at once: nothing is recorded in between.
            let disabled = all.iter().any(|change| matches!(change, BitmapChange::Disable));
            let granularity = options.granularity.unwrap_or(image.usual_granularity());
            finish(image.bitmap_add(name, granularity, !disabled))
        }
        BitmapChange::Remove => finish(image.bitmap_remove(name)),
        BitmapChange::Clear => finish(image.bitmap_clear(name)),
        BitmapChange::Enable => finish(image.bitmap_enable(name, true)),
        BitmapChange::Disable => finish(image.bitmap_enable(name, false)),
        BitmapChange::Merge(other) => {
            let bits = bits_of(source.unwrap_or(image), other)?;
            finish(image.bitmap_merge(name, &bits))
        }
    }
}

fn bits_of(image: &Qcow2<Plain>, name: &str) -> Result<Bitmap, BitmapError> {
    let bitmap = finish(image.bitmap_bits(name))?;
    bitmap.bits().ok_or_else(|| BitmapError::Inconsistent(name.to_owned()))
}

fn qcow2(disk: Disk) -> Result<std::rc::Rc<Qcow2<Plain>>> {
    match disk {
        Disk::Qcow2(image) => Ok(image.into()),
        Disk::Raw { .. } => bail!("a {} image has no bitmaps", Format::Raw.name()),
    }
}
