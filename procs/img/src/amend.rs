//! `amend`: other options of an image that is there.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bulkhead_block_layer::qcow2::amend::Change;
use bulkhead_block_layer::qcow2::{Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

use crate::cli::{self, Chain};
use crate::disk::{Disk, Files, shut_after};
use crate::{seal, size};

/// What can be changed.
#[derive(Debug, Default)]
struct Changes {
    version: Option<u32>,
    lazy_refcounts: Option<bool>,
    refcount_bits: Option<u32>,
    size: Option<u64>,
    backing: Option<String>,
    backing_format: Option<String>,
}

impl Changes {
    fn read(options: &[String]) -> Result<Self> {
        let mut changes = Self::default();
        for option in options.iter().flat_map(|text| text.split(',')) {
            let (name, value) = option.split_once('=').unwrap_or((option, "on"));
            changes.set(name, value).map_err(|why| why.context(format!("-o {option}")))?;
        }
        Ok(changes)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match (name, value) {
            ("compat", "0.10" | "v2") => self.version = Some(2),
            ("compat", "1.1" | "v3") => self.version = Some(3),
            ("compat", _) => bail!("write 0.10 or 1.1"),
            ("lazy_refcounts", "on" | "true" | "yes") => self.lazy_refcounts = Some(true),
            ("lazy_refcounts", "off" | "false" | "no") => self.lazy_refcounts = Some(false),
            ("lazy_refcounts", _) => bail!("write on or off"),
            ("refcount_bits", bits) => self.refcount_bits = Some(bits.parse()?),
            ("size", bytes) => self.size = Some(size::parse(bytes).map_err(anyhow::Error::msg)?),
            ("backing_file", name) => self.backing = Some(name.to_owned()),
            ("backing_fmt", name) => self.backing_format = Some(name.to_owned()),
            (
                "cluster_size" | "extended_l2" | "compression_type" | "preallocation" | "data_file"
                | "data_file_raw",
                _,
            ) => bail!("an image keeps this; convert it into one with the option instead"),
            _ => bail!("there is no such option"),
        }
        Ok(())
    }
}

/// One change, of an image that was opened for it.
type Step = Box<dyn FnOnce(Qcow2<Plain>) -> Result<()>>;

/// `amend`
pub fn run(options: &cli::Amend) -> Result<ExitCode> {
    let changes = Changes::read(&options.options)?;
    let path = &options.file;
    let files = Files::open(options.format, path, &Chain::default(), false)?;
    let mut steps: Vec<Step> = Vec::new();
    let amend = |change| -> Step { Box::new(move |image| Ok(finish(image.amend(change))?)) };
    if changes.version == Some(3) {
        steps.push(amend(Change::Upgrade));
    }
    if let Some(bits) = changes.refcount_bits {
        steps.push(amend(Change::RefcountBits(bits)));
    }
    if let Some(on) = changes.lazy_refcounts {
        steps.push(amend(Change::LazyRefcounts(on)));
    }
    if changes.backing.is_some() || changes.backing_format.is_some() {
        let (name, format) = (changes.backing, changes.backing_format);
        steps.push(Box::new(move |image| rename(&image, name, format)));
    }
    if let Some(size) = changes.size {
        steps.push(Box::new(move |image| {
            shut_after(&image, || Ok(finish(image.resize(size.next_multiple_of(512)))?))
        }));
    }
    if changes.version == Some(2) {
        steps.push(amend(Change::Downgrade));
    }
    seal::seal()?;
    // Each change opens the image anew.
    for step in steps {
        let how = Options { alone: true, discard: false, ..Options::WRITE };
        let Disk::Qcow2(image) = files.again()?.disk(how)? else {
            bail!("{}: a raw image has no options", path.display());
        };
        step(*image)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rename(image: &Qcow2<Plain>, name: Option<String>, format: Option<String>) -> Result<()> {
    let header = image.header();
    let name = name.or(header.backing).unwrap_or_default();
    let format = format.or(header.extensions.backing_format);
    shut_after(image, || match (name.is_empty(), &format) {
        (true, _) => Ok(finish(image.name_backing(None))?),
        (false, Some(format)) => Ok(finish(image.name_backing(Some((&name, format))))?),
        (false, None) => bail!("a backing file needs its format; add backing_fmt=FORMAT"),
    })
}
