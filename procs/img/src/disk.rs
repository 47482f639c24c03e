//! Disks: files that are opened and locked, and what they hold.
//!
//! Two steps, with the seal between them: [`Files::open`] opens everything the user named,
//! [`Files::disk`] believes it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::map::Range;
use bulkhead_block_layer::qcow2::{self, Layer, Options, Qcow2};
use bulkhead_block_layer::storage::{Plain, Storage};
use bulkhead_block_layer::task::finish;
use bulkhead_supervisor::images::lock::{ImageLock, LockError, Use};
use nix::unistd::{Whence, lseek};

use crate::cli::{Cache, Chain, Format};

/// Opened files of a disk.
#[derive(Debug)]
pub struct Files {
    name: String,
    format: Format,
    file: Plain,
    data: Option<Plain>,
    backing: Vec<(Format, Plain)>,
    read_only: bool,
    /// The number of the backing file that is written, if one is.
    base: Option<usize>,
    _locks: Vec<ImageLock>,
}

/// A disk.
#[derive(Debug)]
pub enum Disk {
    /// Bytes as they are.
    Raw {
        /// Where.
        file: Plain,
        /// How many.
        size: u64,
    },
    /// An image.
    Qcow2(Box<Qcow2<Plain>>),
}

impl Files {
    /// Opens and locks a disk's files.
    pub fn open(format: Format, path: &Path, chain: &Chain, read_only: bool) -> Result<Self> {
        Self::open_onto(format, path, chain, read_only, None)
    }

    /// The same, with the image's file cached by the host in another way.
    pub fn open_cached(
        format: Format,
        path: &Path,
        chain: &Chain,
        read_only: bool,
        cache: Cache,
    ) -> Result<Self> {
        let mut files = Self::open(format, path, chain, read_only)?;
        if cache != Cache::Writeback {
            let direct = if cache == Cache::None { nix::libc::O_DIRECT } else { 0 };
            let mut how = File::options();
            how.read(true).write(!read_only).custom_flags(direct);
            let file = how.open(path).with_context(|| path.display().to_string())?;
            files.file = Plain::new(file.into(), cache == Cache::Unsafe)?;
        }
        Ok(files)
    }

    /// The same, with one of the backing files open for writing.
    pub fn open_onto(
        format: Format,
        path: &Path,
        chain: &Chain,
        read_only: bool,
        base: Option<usize>,
    ) -> Result<Self> {
        let mut locks = Vec::new();
        let mut take = |path: &Path, read_only: bool| {
            let (plain, lock) = open(path, read_only)?;
            locks.push(lock);
            Ok::<_, anyhow::Error>(plain)
        };
        let file = take(path, read_only)?;
        let data = chain.data_file.as_deref().map(|path| take(path, read_only)).transpose()?;
        let layer = |(number, (format, path)): (usize, &(Format, PathBuf))| {
            Ok((*format, take(path, base != Some(number))?))
        };
        let backing = chain.backing.iter().enumerate().map(layer).collect::<Result<_>>()?;
        let name = path.display().to_string();
        Ok(Self { name, format, file, data, backing, read_only, base, _locks: locks })
    }

    /// The same files once more, under the locks of these.
    pub fn again(&self) -> Result<Self> {
        let clone = |plain: &Plain| -> Result<Plain> {
            Ok(Plain::new(plain.file().try_clone()?.into(), false)?)
        };
        let layer = |(format, plain): &(Format, Plain)| Ok((*format, clone(plain)?));
        Ok(Self {
            name: self.name.clone(),
            format: self.format,
            file: clone(&self.file)?,
            data: self.data.as_ref().map(clone).transpose()?,
            backing: self.backing.iter().map(layer).collect::<Result<_>>()?,
            read_only: self.read_only,
            base: self.base,
            _locks: Vec::new(),
        })
    }

    /// Believes them as far as they are right. Each description holds its lock
    /// itself, so they stay locked.
    pub fn disk(self, options: Options) -> Result<Disk> {
        let Self { name, format, file, data, backing, read_only, base, _locks } = self;
        if format == Format::Raw {
            if data.is_some() || !backing.is_empty() {
                bail!("{name}: a raw image has no other files");
            }
            let size = file.size().with_context(|| name.clone())?;
            return Ok(Disk::Raw { file, size });
        }
        let mut below = None;
        for (number, (format, file)) in backing.into_iter().enumerate().rev() {
            below = Some(match format {
                Format::Raw => {
                    let size = file.size()?;
                    Layer::raw(file, size)
                }
                Format::Qcow2 => {
                    let files = qcow2::Files { file, data: None, backing: below };
                    let read_only = base != Some(number);
                    let how = Options { read_only, ..Options::WRITE };
                    let image = finish(Qcow2::open(files, Box::new(Nothing), how));
                    image.context("a backing file")?.into()
                }
            });
        }
        let files = qcow2::Files { file, data, backing: below };
        let options = Options { read_only, ..options };
        let image = finish(Qcow2::open(files, Box::new(Nothing), options));
        Ok(Disk::Qcow2(Box::new(image.map_err(|error| explain(&name, error))?)))
    }
}

fn explain(name: &str, error: qcow2::OpenError) -> anyhow::Error {
    let remedy = match &error {
        qcow2::OpenError::NoBacking(_) => "; give it with --backing FORMAT:PATH",
        qcow2::OpenError::NoData(_) => "; give it with --data-file PATH",
        _ => "",
    };
    anyhow::anyhow!("{name}: {error}{remedy}")
}

fn open(path: &Path, read_only: bool) -> Result<(Plain, ImageLock)> {
    let open = || -> Result<OwnedFd> {
        let file = File::options().read(true).write(!read_only).open(path);
        Ok(file.with_context(|| path.display().to_string())?.into())
    };
    let (file, own) = (open()?, open()?);
    let purpose = if read_only { Use::Read } else { Use::Write };
    let lock = ImageLock::take(file.as_fd(), own, purpose).map_err(|error| match error {
        LockError::Taken => anyhow::anyhow!("{}: another program uses it", path.display()),
        LockError::Host(_) => anyhow::anyhow!("{}: {error}", path.display()),
    })?;
    Ok((Plain::new(file, false)?, lock))
}

impl Disk {
    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        match self {
            Self::Raw { size, .. } => *size,
            Self::Qcow2(image) => image.size(),
        }
    }

    /// Fills `into` with the bytes at `at`.
    pub fn read(&self, at: u64, into: &Heap) -> Result<()> {
        let memory = Memory::from(into.clone());
        Ok(match self {
            Self::Raw { file, .. } => finish(file.read(at, memory)),
            Self::Qcow2(image) => finish(image.read(at, memory)),
        }?)
    }

    /// As a layer below another disk.
    pub fn layer(self) -> Layer<Plain> {
        match self {
            Self::Raw { file, size } => Layer::raw(file, size),
            Self::Qcow2(image) => (*image).into(),
        }
    }

    /// Everything that was written is in the files.
    pub fn finish(&self) -> Result<()> {
        match self {
            Self::Raw { .. } => Ok(()),
            Self::Qcow2(image) => Ok(finish(image.shut())?),
        }
    }

    /// Where the bytes from `at` on are.
    pub fn range(&self, at: u64) -> Result<Range> {
        self.range_within(at, self.size() - at)
    }

    /// The same, as far as `rest` bytes.
    pub fn range_within(&self, at: u64, rest: u64) -> Result<Range> {
        match self {
            Self::Raw { file, .. } => Ok(raw_range(file.file(), at, rest)),
            Self::Qcow2(image) => Ok(finish(image.range(at, rest))?),
        }
    }

    /// All of it, ranges of one kind in one.
    pub fn ranges(&self) -> Result<Vec<Range>> {
        let (mut ranges, mut at) = (Vec::<Range>::new(), 0);
        while at < self.size() {
            let range = self.range(at)?;
            at += range.length;
            match ranges.last_mut() {
                Some(last) if last.goes_on(&range) => last.length += range.length,
                _ => ranges.push(range),
            }
        }
        Ok(ranges)
    }
}

/// Works on an image and shuts it, whether the work succeeds or not: one that is left open loses its
/// bitmaps.
pub fn shut_after<T>(image: &Qcow2<Plain>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = work();
    let shut = finish(image.shut());
    let done = done?;
    shut?;
    Ok(done)
}

/// A file's parts, as [`raw_range`] has them.
pub fn raw_ranges(file: &Plain, size: u64) -> Vec<Range> {
    let (mut ranges, mut at) = (Vec::new(), 0);
    while at < size {
        let range = raw_range(file.file(), at, size - at);
        at += range.length;
        ranges.push(range);
    }
    ranges
}

/// Holes as the file system tells; where it tells nothing, all is data.
fn raw_range(file: &File, at: u64, rest: u64) -> Range {
    let seek = |whence| lseek(file, at as i64, whence).ok().map(|found| found as u64);
    let data = seek(Whence::SeekData);
    let known = seek(Whence::SeekHole).is_some();
    let hole = known && data != Some(at);
    let end = if hole { data } else { seek(Whence::SeekHole) };
    let length = end.map_or(rest, |end| end.saturating_sub(at)).clamp(1, rest);
    Range {
        start: at,
        length,
        depth: 0,
        present: true,
        zero: hole,
        data: !hole,
        compressed: false,
        offset: Some(at),
    }
}
