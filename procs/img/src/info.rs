//! `info`: what an image is, and with `--backing-chain` those below it. Each image is looked at by a process
//! of its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::spec::MOST_LAYERS;
use bulkhead_protocol::tool::{BitmapFacts, ImageFacts, SnapshotFacts, ToolCommand, ToolEvent};
use clap::ValueEnum;
use serde_json::Value;

use crate::cli::image::Info;
use crate::cli::{Format, Output};
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::out;
use crate::tool::Front;

mod human;
mod json;
mod luks;

pub use human::print_snapshots;

/// Most snapshots or bitmaps of one image: qcow2 has no more, and whoever tells of more is not believed.
const MOST_PARTS: usize = 65536;

/// Keeps one of the snapshots or bitmaps that are told.
pub fn add<T>(known: &mut Vec<T>, one: T) -> Result<()> {
    if known.len() == MOST_PARTS {
        bail!("the block-tool tells of more snapshots or bitmaps than an image has");
    }
    known.push(one);
    Ok(())
}

/// What is known of one image.
#[derive(Debug)]
pub struct Facts {
    /// Where it is.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Bytes on the host.
    room: Option<u64>,
    image: ImageFacts,
    snapshots: Vec<SnapshotFacts>,
    bitmaps: Vec<BitmapFacts>,
}

/// `info`
pub fn run(options: &Info, front: &mut Front) -> Result<ExitCode> {
    let access = Access::reading(options.share.force_share);
    let all = all(options.backing_chain, &options.file, options.format, access, front)?;
    print(&all, options)?;
    Ok(ExitCode::SUCCESS)
}

/// What is known of an image, and with `follow` of those below it, as their headers name them.
pub fn all(
    follow: bool,
    path: &Path,
    format: Format,
    access: Access,
    front: &mut Front,
) -> Result<Vec<Facts>> {
    let (mut seen, mut all) = (Vec::new(), Vec::<Facts>::new());
    let mut next = Some((path.to_owned(), format));
    while let Some((path, format)) = next {
        let disk = Disk::alone(format, &path, access)?;
        let identity = disk.files.first().context("an image has a file")?.identity;
        if seen.contains(&identity) {
            bail!("{}: the chain comes back to it: it is a loop", path.display());
        }
        if seen.len() == MOST_LAYERS {
            bail!("{}: the chain has more than {MOST_LAYERS} images", path.display());
        }
        seen.push(identity);
        let facts = look(&disk, path, format, front)?;
        next = if follow { below(&facts)? } else { None };
        all.push(facts);
    }
    Ok(all)
}

fn look(disk: &Disk, path: PathBuf, format: Format, front: &mut Front) -> Result<Facts> {
    let room = disk.files.iter().map(crate::file::OpenFile::room).sum();
    let (mut image, mut snapshots, mut bitmaps) = (None, Vec::new(), Vec::new());
    front.run(ToolCommand::Info(disk.plan.clone()), &files([disk]), |event| {
        match event {
            ToolEvent::Image(facts) => image = Some(*facts),
            ToolEvent::Snapshot(facts) => add(&mut snapshots, facts)?,
            ToolEvent::Bitmap(facts) => add(&mut bitmaps, facts)?,
            _ => {}
        }
        Ok(())
    })?;
    let image = image.with_context(|| format!("{}: nothing is known of it", path.display()))?;
    Ok(Facts { path, format, room, image, snapshots, bitmaps })
}

/// What a header names: followed only because the user asked for the chain. Its format is the header's word
/// too; without one nothing is opened.
fn below(facts: &Facts) -> Result<Option<(PathBuf, Format)>> {
    let Some(qcow2) = &facts.image.qcow2 else {
        return Ok(None);
    };
    let Some(name) = &qcow2.backing else {
        return Ok(None);
    };
    let above = facts.path.display();
    let format = match qcow2.backing_format.as_deref().map(|name| Format::from_str(name, false)) {
        Some(Ok(format)) => format,
        Some(Err(_)) => {
            let format = qcow2.backing_format.as_deref().unwrap_or_default();
            bail!("{above}: it names a backing file of format {}", out::clean(format));
        }
        None => bail!(
            "{above}: it names a backing file without its format; \
             name it: bulkhead-img rebase -u -b FILE -F FORMAT"
        ),
    };
    let folder = facts.path.parent().unwrap_or(Path::new(""));
    Ok(Some((folder.join(name), format)))
}

fn print(all: &[Facts], options: &Info) -> Result<()> {
    if options.output == Output::Json {
        let mut each = all.iter().map(json::of);
        let value = match options.backing_chain {
            true => each.collect(),
            false => each.next().unwrap_or(Value::Null),
        };
        return Ok(out::line(serde_json::to_string_pretty(&value)?)?);
    }
    for (number, facts) in all.iter().enumerate() {
        if number > 0 {
            out::line("")?;
        }
        human::print(facts)?;
    }
    Ok(())
}
