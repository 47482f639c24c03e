//! Disks: what the files of a command hold.
//!
//! Two steps: [`Parts::take`] finds the files, [`Parts::disk`] believes them.

use std::rc::Rc;

use anyhow::{Context, Result};
use bulkhead_block_layer::luks::{Header, SECTOR, Secret, Volume};
use bulkhead_block_layer::memory::{Heap, Memory};
use bulkhead_block_layer::outcome::{Failure, Outcome};
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::map::Range;
use bulkhead_block_layer::qcow2::{self, Layer, LuksLayer, OpenError, Options, Qcow2};
use bulkhead_block_layer::storage::Storage;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::block::{LayerFormat, LayerNumber, LayerPlan, RemotePlan};
use bulkhead_protocol::tool::PlannedDisk;

use super::files::{Files, Placed, blame};
use super::raw::RawDisk;
use super::secret::{open_image, open_volume};
use super::store::Store;

/// Said of volumes without a key.
pub const KEYLESS: &str = "a LUKS volume needs its passphrase; give it with --key-secret FILE";

/// The files of one layer.
#[derive(Debug)]
struct Part {
    format: LayerFormat,
    file: Placed,
    data: Option<Store>,
    secret: Option<Rc<Secret>>,
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
    /// A volume.
    Luks(Rc<LuksLayer<Store>>),
}

impl Part {
    fn take(
        plan: LayerPlan,
        remote: Option<RemotePlan>,
        read_only: bool,
        files: &mut Files,
    ) -> Result<Self> {
        let file = files.take_from(remote, read_only)?;
        let data = if plan.data_file { Some(files.take()?.file) } else { None };
        let secret = if plan.secret { Some(Rc::new(files.take_secret()?)) } else { None };
        Ok(Self { format: plan.format, file, data, secret, read_only })
    }

    fn again(&self) -> Self {
        let file = Placed { place: self.file.place, file: self.file.file.again() };
        let data = self.data.as_ref().map(Store::again);
        let (format, read_only, secret) = (self.format, self.read_only, self.secret.clone());
        Self { format, file, data, secret, read_only }
    }

    fn open(self, backing: Option<Layer<Store>>, options: Options) -> Result<Disk> {
        let Self { format, file: Placed { place, file }, data, secret, read_only } = self;
        if format != LayerFormat::Qcow2 && (data.is_some() || backing.is_some()) {
            return Err(blame(place, "only a qcow2 image has other files"));
        }
        if format == LayerFormat::Luks {
            let secret = secret.ok_or_else(|| blame(place, KEYLESS))?;
            let volume = open_volume(file, &secret).map_err(|error| blame(place, error))?;
            return Ok(Disk::Luks(Rc::new(volume)));
        }
        if format == LayerFormat::Raw {
            if secret.is_some() {
                return Err(blame(
                    place,
                    "a raw image is not encrypted, but a passphrase was given",
                ));
            }
            let size = file.size().map_err(|failure| blame(place, failure))?;
            return Ok(Disk::Raw(RawDisk::new(file, size, read_only)));
        }
        let files = qcow2::Files { file, data, backing };
        let options = Options { read_only, encrypted: secret.is_some(), ..options };
        let image = finish(Qcow2::open(files, Box::new(Nothing), options));
        let image = image.map_err(|error| blame(place, explain(&error)))?;
        if let Some(secret) = secret {
            open_image(&image, &secret).map_err(|error| blame(place, error))?;
        }
        Ok(Disk::Qcow2(Rc::new(image)))
    }
}

impl Parts {
    /// Takes a disk's files.
    pub fn take(plan: &PlannedDisk, files: &mut Files) -> Result<Self> {
        let parts = plan.layers.iter().zip(0..).map(|(layer, number)| {
            let read_only = !plan.written.contains(&number);
            let mut remotes = plan.remotes.iter();
            let remote = remotes.find(|remote| remote.layer == LayerNumber::from(number));
            Part::take(*layer, remote.cloned(), read_only, files)
        });
        Ok(Self(parts.collect::<Result<_>>()?))
    }

    /// The same files once more.
    pub fn again(&self) -> Self {
        Self(self.0.iter().map(Part::again).collect())
    }

    /// The header and the size of a volume whose passphrase was not given: what can be known of it.
    pub fn locked(&self) -> Result<Option<(Header, u64)>> {
        let Some(part) = self.0.first() else {
            return Ok(None);
        };
        if part.format != LayerFormat::Luks || part.secret.is_some() {
            return Ok(None);
        }
        let Placed { place, file } = &part.file;
        let header = finish(Volume::header(file, 0)).map_err(|error| blame(*place, error))?;
        let start = u64::from(header.payload) * SECTOR;
        Ok(Some((header, file.size()?.saturating_sub(start) / SECTOR * SECTOR)))
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
        Disk::Luks(_) => Err(blame(place, format!("a LUKS volume has {what}"))),
    }
}

fn explain(error: &OpenError) -> String {
    let remedy = match error {
        OpenError::NoBacking(_) => "; give it with --backing FORMAT:PATH",
        OpenError::NoData(_) => "; give it with --data-file PATH",
        OpenError::Encrypted => "; give it with --key-secret FILE",
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
            Self::Luks(volume) => Layer::Luks(Rc::clone(volume)).size(),
        }
    }

    /// Fills `into` with the bytes at `at`.
    pub async fn read(&self, at: u64, into: Memory) -> Outcome {
        match self {
            Self::Raw(raw) => raw.file.read(at, into).await,
            Self::Qcow2(image) => image.read(at, into).await,
            Self::Luks(volume) => Layer::Luks(Rc::clone(volume)).read(at, into).await,
        }
    }

    /// Writes `from` at `at`.
    pub async fn write(&self, at: u64, from: Memory) -> Outcome {
        match self {
            Self::Raw(raw) => raw.file.write(at, from).await,
            Self::Qcow2(image) => image.write(at, from).await,
            Self::Luks(volume) => Layer::Luks(Rc::clone(volume)).write(at, from).await,
        }
    }

    /// Makes a range read as zeroes.
    pub async fn zero(&self, at: u64, len: u64) -> Outcome {
        match self {
            Self::Raw(raw) => raw.file.zero(at, len).await,
            Self::Qcow2(image) => image.zero(at, len, true).await,
            Self::Luks(volume) => Layer::Luks(Rc::clone(volume)).zero(at, len, true).await,
        }
    }

    /// Everything that was written is on stable storage.
    pub async fn flush(&self) -> Outcome {
        match self {
            Self::Raw(raw) => raw.file.sync().await,
            Self::Qcow2(image) => image.flush().await,
            Self::Luks(volume) => volume.storage().sync().await,
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
            Self::Luks(volume) => Layer::Luks(volume),
        }
    }

    /// Everything that was written is in the files, on stable storage.
    pub fn finish(&self) -> Outcome {
        match self {
            Self::Raw(raw) => finish(raw.file.sync()),
            Self::Qcow2(image) => finish(image.shut()),
            Self::Luks(volume) => finish(volume.storage().sync()),
        }
    }

    /// Where the bytes from `at` on are, as far as `rest` bytes.
    pub async fn range(&self, at: u64, rest: u64) -> Result<Range, Failure> {
        match self {
            Self::Raw(raw) => raw.range(at, rest).await,
            Self::Qcow2(image) => image.range(at, rest).await,
            Self::Luks(volume) => Ok(data_at(volume.start(), at, rest)),
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

/// Encrypted bytes have no holes.
fn data_at(disk: u64, start: u64, length: u64) -> Range {
    Range {
        start,
        length,
        depth: 0,
        present: true,
        zero: false,
        data: true,
        compressed: false,
        offset: Some(disk + start),
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
