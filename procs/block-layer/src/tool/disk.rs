//! Disks: what the files of a command hold.
//!
//! Two steps: [`Parts::take`] finds the files, [`Parts::disk`] believes them.

use std::rc::Rc;

use anyhow::{Context, Result};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::outcome::{Failure, Outcome};
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::map::Range;
use bulkhead_block_layer::qcow2::{self, Layer, OpenError, Options, Qcow2};
use bulkhead_block_layer::storage::Storage;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::block::LayerFormat;
use bulkhead_protocol::tool::PlannedDisk;

use super::files::{Files, Placed, blame};
use super::raw::RawDisk;
use super::store::Store;

/// Said of volumes.
pub const LOCKED: &str = "LUKS volumes are not worked on here; use qemu-img";

/// The files of one layer.
#[derive(Debug)]
struct Part {
    format: LayerFormat,
    file: Placed,
    data: Option<Store>,
    read_only: bool,
}

/// The files of a disk, the top layer first.
#[derive(Debug)]
pub struct Parts(Vec<Part>);

/// A disk.
#[derive(Debug)]
pub enum Disk {
    /// Bytes as they are.
    Raw(RawDisk),
    /// An image.
    Qcow2(Rc<Qcow2<Store>>),
}

impl Part {
    fn take(format: LayerFormat, data: bool, read_only: bool, files: &mut Files) -> Result<Self> {
        let file = files.take()?;
        let data = if data { Some(files.take()?.file) } else { None };
        Ok(Self { format, file, data, read_only })
    }

    fn again(&self) -> Self {
        let file = Placed { place: self.file.place, file: self.file.file.again() };
        let data = self.data.as_ref().map(Store::again);
        Self { format: self.format, file, data, read_only: self.read_only }
    }

    fn open(self, backing: Option<Layer<Store>>, options: Options) -> Result<Disk> {
        let Self { format, file: Placed { place, file }, data, read_only } = self;
        if format == LayerFormat::Luks {
            return Err(blame(place, LOCKED));
        }
        if format == LayerFormat::Raw {
            if data.is_some() || backing.is_some() {
                return Err(blame(place, "a raw image has no other files"));
            }
            let size = file.size().map_err(|failure| blame(place, failure))?;
            return Ok(Disk::Raw(RawDisk::new(file, size, read_only)));
        }
        let files = qcow2::Files { file, data, backing };
        let options = Options { read_only, ..options };
        let image = finish(Qcow2::open(files, Box::new(Nothing), options));
        Ok(Disk::Qcow2(Rc::new(image.map_err(|error| blame(place, explain(&error)))?)))
    }
}

impl Parts {
    /// Takes a disk's files.
    pub fn take(plan: &PlannedDisk, files: &mut Files) -> Result<Self> {
        let parts = plan.layers.iter().zip(0..).map(|(layer, number)| {
            let read_only = !plan.written.contains(&number);
            Part::take(layer.format, layer.data_file, read_only, files)
        });
        Ok(Self(parts.collect::<Result<_>>()?))
    }

    /// The same files once more.
    pub fn again(&self) -> Self {
        Self(self.0.iter().map(Part::again).collect())
    }

    /// Believes them as far as they are right.
    pub fn disk(self, options: Options) -> Result<Disk> {
        let Self(mut parts) = self;
        let mut below = None;
        while parts.len() > 1 {
            let part = parts.pop().context("a layer")?;
            let how = if part.read_only { Options::READ } else { Options::WRITE };
            below = Some(part.open(below, how)?.layer());
        }
        parts.pop().context("a disk has a layer")?.open(below, options)
    }
}

/// Takes a disk's files and believes them.
pub fn open(plan: &PlannedDisk, options: Options, files: &mut Files) -> Result<Disk> {
    Parts::take(plan, files)?.disk(options)
}

/// The same of an image of its own kind; `what` is what raw ones lack.
pub fn open_qcow2(
    plan: &PlannedDisk,
    options: Options,
    files: &mut Files,
    what: &str,
) -> Result<Rc<Qcow2<Store>>> {
    let parts = Parts::take(plan, files)?;
    let place = parts.0.first().map_or(0, |part| part.file.place);
    match parts.disk(options)? {
        Disk::Qcow2(image) => Ok(image),
        Disk::Raw(_) => Err(blame(place, format!("a raw image has {what}"))),
    }
}

fn explain(error: &OpenError) -> String {
    let remedy = match error {
        OpenError::NoBacking(_) => "; give it with --backing FORMAT:PATH",
        OpenError::NoData(_) => "; give it with --data-file PATH",
        _ => "",
    };
    format!("{error}{remedy}")
}

impl Disk {
    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        match self {
            Self::Raw(raw) => raw.size,
            Self::Qcow2(image) => image.size(),
        }
    }

    /// Fills `into` with the bytes at `at`.
    pub async fn read(&self, at: u64, into: Memory) -> Outcome {
        match self {
            Self::Raw(raw) => raw.file.read(at, into).await,
            Self::Qcow2(image) => image.read(at, into).await,
        }
    }

    /// Writes `from` at `at`.
    pub async fn write(&self, at: u64, from: Memory) -> Outcome {
        match self {
            Self::Raw(raw) => raw.file.write(at, from).await,
            Self::Qcow2(image) => image.write(at, from).await,
        }
    }

    /// Makes a range read as zeroes.
    pub async fn zero(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::Raw(raw) => raw.file.zero(at, len).await,
            Self::Qcow2(image) => image.zero(at, len, true).await,
        }
    }

    /// Everything that was written is on stable storage.
    pub async fn flush(&self) -> Outcome {
        match self {
            Self::Raw(raw) => raw.file.sync().await,
            Self::Qcow2(image) => image.flush().await,
        }
    }

    /// Fills a vector with the bytes at `at`.
    pub fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        let heap = Heap::zeroes(len as usize);
        finish(self.read(at, heap.clone().into()))?;
        Ok(heap.to_vec())
    }

    /// As a layer below another disk.
    pub fn layer(self) -> Layer<Store> {
        match self {
            Self::Raw(RawDisk { file, size, .. }) => Layer::raw(file, size),
            Self::Qcow2(image) => Layer::Qcow2(image),
        }
    }

    /// Everything that was written is in the files, on stable storage.
    pub fn finish(&self) -> Outcome {
        match self {
            Self::Raw(raw) => finish(raw.file.sync()),
            Self::Qcow2(image) => finish(image.shut()),
        }
    }

    /// Where the bytes from `at` on are, as far as `rest` bytes.
    pub async fn range(&self, at: u64, rest: u64) -> Result<Range, Failure> {
        match self {
            Self::Raw(raw) => Ok(raw.range(at, rest)),
            Self::Qcow2(image) => image.range(at, rest).await,
        }
    }

    /// Calls `each` for all of it, ranges of one kind in one.
    pub fn ranges(&self, mut each: impl FnMut(Range) -> Result<()>) -> Result<()> {
        let (mut last, mut at) = (None::<Range>, 0);
        while at < self.size() {
            let range = finish(self.range(at, self.size() - at))?;
            at += range.length;
            last = Some(match last {
                Some(last) if last.goes_on(&range) => {
                    Range { length: last.length + range.length, ..last }
                }
                Some(last) => {
                    each(last)?;
                    range
                }
                None => range,
            });
        }
        last.map_or(Ok(()), each)
    }
}

/// Works on an image and shuts it, whether the work succeeds or not: one that is left open loses its
/// bitmaps.
pub fn shut_after<T>(image: &Qcow2<Store>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = work();
    let shut = finish(image.shut());
    let done = done?;
    shut?;
    Ok(done)
}
