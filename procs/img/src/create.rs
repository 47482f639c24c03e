//! `create`, and the options of formats for all who make images.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::qcow2::create::{Wanted, create};
use bulkhead_block_layer::qcow2::header::Compression;
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::{Files, Options, Qcow2};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

use crate::cli::{self, Chain, Format};
use crate::disk;
use crate::{seal, size};

/// What is done beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preallocation {
    /// Nothing.
    #[default]
    Off,
    /// Every cluster has its place.
    Metadata,
    /// And the host has room for it.
    Falloc,
    /// And it is written.
    Full,
}

/// `-o`.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// For the format.
    pub wanted: Wanted,
    /// For the host.
    pub preallocation: Preallocation,
    size: Option<u64>,
}

impl Parsed {
    /// Reads `NAME=VALUE,…` of each `-o`.
    pub fn read(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options.iter().flat_map(|text| text.split(',')) {
            let (name, value) = option.split_once('=').unwrap_or((option, "on"));
            parsed.set(name, value).with_context(|| format!("-o {option}"))?;
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wanted = &mut self.wanted;
        let bytes = |value: &str| size::parse(value).map_err(anyhow::Error::msg);
        match name {
            "size" => self.size = Some(bytes(value)?),
            "compat" => {
                wanted.version = match value {
                    "0.10" | "v2" => 2,
                    "1.1" | "v3" => 3,
                    _ => bail!("write 0.10 or 1.1"),
                }
            }
            "cluster_size" => wanted.cluster_size = bytes(value)?,
            "refcount_bits" => wanted.refcount_bits = value.parse()?,
            "lazy_refcounts" => wanted.lazy_refcounts = switch(value)?,
            "extended_l2" => wanted.extended_l2 = switch(value)?,
            "compression_type" => {
                wanted.compression = match value {
                    "zlib" => Compression::Zlib,
                    "zstd" => Compression::Zstd,
                    _ => bail!("write zlib or zstd"),
                }
            }
            "backing_file" => wanted.backing = Some(value.to_owned()),
            "backing_fmt" => wanted.backing_format = Some(value.to_owned()),
            "data_file" => wanted.data_file = Some(value.to_owned()),
            "data_file_raw" => wanted.data_file_raw = switch(value)?,
            "preallocation" => {
                self.preallocation = match value {
                    "off" => Preallocation::Off,
                    "metadata" => Preallocation::Metadata,
                    "falloc" => Preallocation::Falloc,
                    "full" => Preallocation::Full,
                    _ => bail!("write off, metadata, falloc or full"),
                }
            }
            _ => bail!("there is no such option"),
        }
        Ok(())
    }
}

fn switch(value: &str) -> Result<bool> {
    match value {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => bail!("write on or off"),
    }
}

/// `create`
pub fn run(options: &cli::Create) -> Result<ExitCode> {
    let mut parsed = Parsed::read(&options.options)?;
    if let Some(backing) = &options.backing {
        parsed.wanted.backing = Some(backing.clone());
    }
    if let Some(format) = options.backing_format {
        parsed.wanted.backing_format = Some(format.name().to_owned());
    }
    if parsed.wanted.backing.is_some() && parsed.wanted.backing_format.is_none() {
        bail!("a backing file needs its format; add -F FORMAT");
    }
    let size = match options.size.or(parsed.size) {
        Some(size) => size,
        None => size_of_backing(options, &parsed)?,
    };
    // As QEMU does: whole sectors.
    parsed.wanted.size = size.next_multiple_of(512);
    let target = Target::make(options.format, &options.file, &parsed)?;
    seal::seal()?;
    target.fill(&parsed)?;
    if !options.quiet {
        let (file, format) = (options.file.display(), options.format.name());
        println!("Formatting '{file}', fmt={format} size={}", parsed.wanted.size);
    }
    Ok(ExitCode::SUCCESS)
}

/// The backing file's, which is named relative to the image.
fn size_of_backing(options: &cli::Create, parsed: &Parsed) -> Result<u64> {
    let (Some(name), Some(format)) = (&parsed.wanted.backing, options.backing_format) else {
        bail!("say how large the disk is to be");
    };
    let folder = options.file.parent().unwrap_or(Path::new(""));
    let files = disk::Files::open(format, &folder.join(name), &Chain::default(), true)?;
    Ok(files.disk(Options::LOOK)?.size())
}

/// Files of an image that is being made.
#[derive(Debug)]
pub struct Target {
    format: Format,
    file: Plain,
    data: Option<Plain>,
}

impl Target {
    /// Makes the files, empty.
    pub fn make(format: Format, path: &Path, parsed: &Parsed) -> Result<Self> {
        let make = |path: &Path| {
            let file =
                File::options().read(true).write(true).create(true).truncate(true).open(path);
            let file = file.with_context(|| path.display().to_string())?;
            Ok::<_, anyhow::Error>(Plain::new(file.into(), false)?)
        };
        let file = make(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let name = parsed.wanted.data_file.as_ref().filter(|_| format == Format::Qcow2);
        let data = name.map(|name| make(&folder.join(name))).transpose()?;
        Ok(Self { format, file, data })
    }

    /// Makes an empty disk of them.
    pub fn fill(self, parsed: &Parsed) -> Result<disk::Disk> {
        let size = parsed.wanted.size;
        if self.format == Format::Raw {
            self.file.set_len(size)?;
            reserve(&self.file, size, parsed.preallocation)?;
            return Ok(disk::Disk::Raw { file: self.file, size });
        }
        finish(create(&self.file, &parsed.wanted))?;
        if let Some(data) = &self.data {
            data.set_len(size)?;
            reserve(data, size, parsed.preallocation)?;
        }
        let has_backing = parsed.wanted.backing.is_some();
        if has_backing && parsed.preallocation != Preallocation::Off {
            bail!("preallocation would hide the backing file; leave one of the two out");
        }
        let files = Files { file: self.file, data: self.data, backing: None };
        let options = Options { alone: true, ..Options::WRITE };
        let image = finish(Qcow2::open(files, Box::new(Nothing), options))?;
        if parsed.preallocation != Preallocation::Off {
            finish(image.preallocate())?;
            finish(image.close())?;
            if !image.header().has_data_file() {
                image.file().set_len(image.end())?;
                reserve(image.file(), image.end(), parsed.preallocation)?;
            }
        }
        Ok(disk::Disk::Qcow2(Box::new(image)))
    }
}

fn reserve(file: &Plain, size: u64, how: Preallocation) -> Result<()> {
    if matches!(how, Preallocation::Off | Preallocation::Metadata) || size == 0 {
        return Ok(());
    }
    let flags = nix::fcntl::FallocateFlags::empty();
    let reserved = nix::fcntl::fallocate(file.file(), flags, 0, size as i64);
    match (how, reserved) {
        (Preallocation::Falloc, reserved) => Ok(reserved?),
        // Room that is only promised may need to be made when it is written: what is full is written.
        _ => write_zeroes(file, size),
    }
}

/// Writes zeroes where the file has holes, and over what was only reserved.
fn write_zeroes(file: &Plain, size: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let zeroes = vec![0; 1 << 20];
    for range in disk::raw_ranges(file, size).into_iter().filter(|range| range.zero) {
        let mut at = range.start;
        while at < range.start + range.length {
            let len = (range.start + range.length - at).min(zeroes.len() as u64);
            file.file().write_all_at(&zeroes[..len as usize], at)?;
            at += len;
        }
    }
    Ok(())
}
