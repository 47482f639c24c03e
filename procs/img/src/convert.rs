//! `convert`: disks, one behind the other, into another image.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::tool::{
    BrokenBitmaps, ConvertPlan, MOST_THREADS, NewImage, Preallocation, ToolCommand, ToolEvent,
    USUAL_PIECES,
};

use crate::chain;
use crate::cli::copy::Convert;
use crate::cli::{Chain, Format};
use crate::disk::{Disk, files};
use crate::file::{Access, OpenFile};
use crate::option::Wanted;
use crate::out::{clean, complaint};
use crate::target::Target;
use crate::tool::Front;

/// Threads that read and write: more get into each other's way where a file takes one writer at a time.
pub const THREADS: u16 = 4;

/// `convert`
pub fn run(options: &Convert, front: &mut Front) -> Result<ExitCode> {
    let Wanted { image, .. } = Wanted::read(options.target_format, &options.options)?;
    check(options, &image)?;
    front.show_progress(options.progress && !options.quiet);
    let (path, sources) = match &options.files[..] {
        [sources @ .., path] if !sources.is_empty() => (path, sources),
        _ => bail!("give a source and a target"),
    };
    let access = Access::reading(options.share.force_share);
    let first = sources.first().context("a source")?;
    let chain = chain::of(&options.chain, options.format, first, options.share, front)?;
    let open = |(number, path): (usize, &std::path::PathBuf)| {
        // The files that belong to an image belong to the first one.
        let chain = if number == 0 { &chain } else { &Chain::default() };
        Disk::open(options.format, path, chain, access)
    };
    let sources: Vec<Disk> = sources.iter().enumerate().map(open).collect::<Result<_>>()?;
    let mut plan = ConvertPlan {
        sources: sources.iter().map(|disk| disk.plan.clone()).collect(),
        snapshot: options.snapshot.clone(),
        target: image,
        existing: None,
        target_is_zero: options.target_is_zero,
        compress: options.compress,
        sparse: options.sparse,
        bitmaps: options.bitmaps.then_some(match options.skip_broken_bitmaps {
            true => BrokenBitmaps::Skipped,
            false => BrokenBitmaps::Refused,
        }),
        pieces: options.pieces.unwrap_or(USUAL_PIECES),
        // The order of a raw image's bytes is theirs anyway.
        any_order: options.any_order || options.target_format != Format::Qcow2,
    };
    let mut all = files(&sources);
    let mut work = |plan, all: &[&OpenFile]| {
        front.run_with(threads(options), ToolCommand::Convert(Box::new(plan)), all, |event| {
            if let ToolEvent::BitmapSkipped(name) = event {
                let name = clean(&name);
                complaint(format_args!("bulkhead-img: Skipping inconsistent bitmap '{name}'"))?;
            }
            Ok(())
        })
    };
    if options.existing {
        let secret = options.target_key_secret.clone();
        let chain = Chain { key_secret: secret, ..Chain::default() };
        let target = Disk::open(options.target_format, path, &chain, Access::WRITE)?;
        plan.existing = Some(target.plan.clone());
        all.extend(&target.files);
        work(plan, &all)?;
    } else {
        let (secret, read) =
            (options.target_key_secret.as_deref(), sources.iter().collect::<Vec<_>>());
        let target = Target::make(path, &mut plan.target, secret, &read)?;
        let both: Vec<&OpenFile> = all.into_iter().chain(target.files()).collect();
        let done = work(plan, &both);
        target.after(done, front.has_emptied())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(options: &Convert, image: &NewImage) -> Result<()> {
    let qcow2 = options.target_format == Format::Qcow2;
    let whole = image.data_file.is_none() && options.target_key_secret.is_none();
    if options.compress && !(qcow2 && whole) {
        bail!("-c needs a qcow2 target without an external data file and without encryption");
    }
    if image.backing.is_some() {
        bail!("a converted image has no backing file; make an overlay with create -b");
    }
    if options.compress && image.preallocation != Preallocation::Off {
        bail!("-c and preallocation exclude each other");
    }
    if options.bitmaps && (!qcow2 || options.format != Format::Qcow2 || image.version < 3) {
        bail!("--bitmaps needs a qcow2 source and a qcow2 target of version 3");
    }
    if options.files.len() > 2 && (options.snapshot.is_some() || options.bitmaps) {
        bail!("-l and --bitmaps are for a single source");
    }
    if !options.sparse.is_multiple_of(512) {
        bail!("-S {}: give a multiple of 512, or 0", options.sparse);
    }
    Ok(())
}

fn threads(options: &Convert) -> usize {
    let usual = || std::thread::available_parallelism().map_or(1, usize::from);
    match options.compress {
        true => options.pieces.map_or_else(usual, usize::from).clamp(1, MOST_THREADS),
        false => options.pieces.unwrap_or(USUAL_PIECES).min(THREADS).into(),
    }
}
