//! `create`, and the images that other commands make.

use std::os::unix::fs::FileExt;
use std::rc::Rc;

use anyhow::{Result, bail};
use bulkhead_block_layer::qcow2::create::{Wanted, create};
use bulkhead_block_layer::qcow2::header;
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::{self, Options, Qcow2};
use bulkhead_block_layer::storage::Storage;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::block::LayerFormat;
use bulkhead_protocol::tool::{Compression, NewImage, Preallocation, ToolEvent};

use super::disk::{Disk, LOCKED};
use super::files::{Files, Placed, blame};
use super::raw::{RawDisk, raw_range};
use super::report::Report;
use super::store::Store;

/// Makes it and leaves it.
pub fn run(image: &NewImage, files: &mut Files, report: &Report) -> Result<()> {
    Ok(Target::take(image, files)?.fill(image, report)?.finish()?)
}

/// Files of an image that is being made.
#[derive(Debug)]
pub struct Target {
    format: LayerFormat,
    file: Placed,
    data: Option<Store>,
}

impl Target {
    /// Takes them, and refuses what can be refused. What is in them stays as yet.
    pub fn take(image: &NewImage, files: &mut Files) -> Result<Self> {
        let file = files.take()?;
        let data = if image.has_data_file() { Some(files.take()?.file) } else { None };
        match image.format {
            LayerFormat::Raw => {
                let room = if file.file.grows() { u64::MAX } else { file.file.size()? };
                if room < image.size {
                    let reason = format!("it has {room} bytes; the disk has {}", image.size);
                    return Err(blame(file.place, reason));
                }
            }
            LayerFormat::Luks => return Err(blame(file.place, LOCKED)),
            LayerFormat::Qcow2 => {
                if image.backing.is_some() && image.preallocation != Preallocation::Off {
                    bail!("preallocation would hide the backing file; leave one of the two out");
                }
                wanted(image).check()?;
            }
        }
        Ok(Self { format: image.format, file, data })
    }

    /// Whether a raw one may read as something else than zeroes: a device.
    pub fn is_used(&self) -> bool {
        self.format == LayerFormat::Raw && !self.file.file.grows()
    }

    /// Makes an empty disk of them: what was in them is gone.
    pub fn fill(self, image: &NewImage, report: &Report) -> Result<Disk> {
        let Self { format, file: Placed { file, .. }, data } = self;
        let size = image.size;
        report.tell(ToolEvent::Emptied)?;
        for file in [&file].into_iter().chain(&data) {
            file.set_len(0)?;
        }
        if format == LayerFormat::Raw {
            file.set_len(size)?;
            reserve(&file, size, image.preallocation)?;
            return Ok(Disk::Raw(RawDisk::new(file, size, false)));
        }
        finish(create(&file, &wanted(image)))?;
        if let Some(data) = &data {
            data.set_len(size)?;
            reserve(data, size, image.preallocation)?;
        }
        let files = qcow2::Files { file, data, backing: None };
        let options = Options { alone: true, ..Options::WRITE };
        let made = finish(Qcow2::open(files, Box::new(Nothing), options))?;
        if image.preallocation != Preallocation::Off {
            finish(made.preallocate())?;
            finish(made.close())?;
            if !made.header().has_data_file() {
                made.file().set_len(made.end())?;
                reserve(made.file(), made.end(), image.preallocation)?;
            }
        }
        Ok(Disk::Qcow2(Rc::new(made)))
    }
}

/// The same in the format's own words.
pub fn wanted(image: &NewImage) -> Wanted {
    Wanted {
        size: image.size,
        version: image.version,
        cluster_size: image.cluster_size,
        refcount_bits: image.refcount_bits,
        lazy_refcounts: image.lazy_refcounts,
        extended_l2: image.extended_l2,
        compression: match image.compression {
            Compression::Zlib => header::Compression::Zlib,
            Compression::Zstd => header::Compression::Zstd,
        },
        backing: image.backing.clone(),
        backing_format: image.backing_format.clone(),
        data_file: image.data_file.clone(),
        data_file_raw: image.data_file_raw,
    }
}

/// Makes the host keep room for all of a file.
pub fn reserve(file: &Store, size: u64, how: Preallocation) -> Result<()> {
    if matches!(how, Preallocation::Off | Preallocation::Metadata) || size == 0 {
        return Ok(());
    }
    let reserved = bulkhead_sys::file::reserve(file.file(), 0, size);
    match (how, reserved) {
        (Preallocation::Falloc, reserved) => Ok(reserved?),
        // Room that is only promised may need to be made when it is written: what is full is written.
        _ => write_zeroes(file, size),
    }
}

/// Writes zeroes where the file has holes, and over what was only reserved.
fn write_zeroes(file: &Store, size: u64) -> Result<()> {
    let zeroes = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let range = raw_range(file.file(), at, size - at);
        let end = at + range.length;
        while range.zero && at < end {
            let len = (end - at).min(zeroes.len() as u64);
            file.file().write_all_at(&zeroes[..len as usize], at)?;
            at += len;
        }
        at = end;
    }
    Ok(())
}
