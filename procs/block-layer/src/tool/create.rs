//! `create`, and the images that other commands make.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::luks::{self, Secret, Volume};
use bulkhead_block_layer::qcow2::create::{Wanted, create};
use bulkhead_block_layer::qcow2::header;
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::{self, LuksLayer, Options, Qcow2};
use bulkhead_block_layer::storage::Storage;
use bulkhead_block_layer::task::finish;
use bulkhead_protocol::block::LayerFormat;
use bulkhead_protocol::tool::{Compression, NewImage, Preallocation, ToolEvent};
use bulkhead_sys::entropy;

use super::disk::{Disk, KEYLESS};
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
    secret: Option<Secret>,
}

impl Target {
    /// Takes them, and refuses what can be refused. What is in them stays as yet.
    pub fn take(image: &NewImage, files: &mut Files) -> Result<Self> {
        let file = files.take_from(image.remote.clone(), false)?;
        let data = if image.has_data_file() { Some(files.take()?.file) } else { None };
        let secret = if image.secret { Some(files.take_secret()?) } else { None };
        let preallocated = image.preallocation != Preallocation::Off;
        if preallocated && file.file.file().is_none() {
            return Err(blame(file.place, "room on a server is not preallocated"));
        }
        let before = match image.format {
            LayerFormat::Raw if image.secret => {
                bail!("a raw image is not encrypted, but a passphrase was given")
            }
            LayerFormat::Raw => 0,
            LayerFormat::Luks if secret.is_none() => return Err(blame(file.place, KEYLESS)),
            LayerFormat::Luks if preallocated => {
                bail!("a LUKS volume is not preallocated; leave preallocation out")
            }
            LayerFormat::Luks => luks::Wanted::default().header_bytes(),
            LayerFormat::Qcow2 if image.backing.is_some() && preallocated => {
                bail!("preallocation would hide the backing file; leave one of the two out")
            }
            // Places that nothing was written to read as what decrypting the host's zeroes gives.
            LayerFormat::Qcow2 if image.secret && preallocated => {
                bail!("an encrypted image is not preallocated; leave preallocation out")
            }
            LayerFormat::Qcow2 => {
                wanted(image).check()?;
                0
            }
        };
        let room = if file.file.grows() { u64::MAX } else { file.file.size()? };
        let (room, size) = (room.saturating_sub(before), image.size);
        if image.format != LayerFormat::Qcow2 && room < size {
            let reason = format!("it has room for {room} bytes; the disk has {size}");
            return Err(blame(file.place, reason));
        }
        Ok(Self { format: image.format, file, data, secret })
    }

    /// Whether it may read as something else than zeroes, though nothing was written: a device, an export,
    /// and whatever is decrypted.
    pub fn is_used(&self) -> bool {
        match self.format {
            LayerFormat::Raw => !self.file.file.grows(),
            LayerFormat::Luks => true,
            LayerFormat::Qcow2 => false,
        }
    }

    /// Makes an empty disk of them: what was in them is gone.
    pub fn fill(self, image: &NewImage, report: &Report) -> Result<Disk> {
        let Self { format, file: Placed { file, .. }, data, secret } = self;
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
        if format == LayerFormat::Luks {
            let secret = secret.context(KEYLESS)?;
            let volume = lock(&file, 0, &secret)?;
            file.set_len(u64::from(volume.header.payload) * luks::SECTOR + size)?;
            return Ok(Disk::Luks(Rc::new(LuksLayer::new(file, volume)?)));
        }
        finish(create(&file, &wanted(image)))?;
        if let Some(data) = &data {
            data.set_len(size)?;
            reserve(data, size, image.preallocation)?;
        }
        let files = qcow2::Files { file, data, backing: None };
        let options = Options { alone: true, encrypted: secret.is_some(), ..Options::WRITE };
        let made = finish(Qcow2::open(files, Box::new(Nothing), options))?;
        if let (Some(secret), Some(encryption)) = (secret, made.encryption()) {
            made.set_cipher(Rc::new(lock(made.file(), encryption.at, &secret)?.cipher));
        }
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

/// Writes a LUKS header at byte `at`, and opens it.
fn lock(file: &Store, at: u64, passphrase: &[u8]) -> Result<Volume> {
    let wanted = luks::Wanted::default();
    let noise = |bytes: &mut [u8]| entropy::fill(bytes).map_err(|error| error.to_string());
    let (header, key) = finish(luks::create(file, at, &wanted, passphrase, noise))?;
    Ok(Volume::with_key(header, &key)?)
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
        encryption: image.secret.then(|| luks::Wanted::default().header_bytes()),
    }
}

/// Makes the host keep room for all of a file.
pub fn reserve(file: &Store, size: u64, how: Preallocation) -> Result<()> {
    if matches!(how, Preallocation::Off | Preallocation::Metadata) || size == 0 {
        return Ok(());
    }
    let file = file.file().context("room on a server is not preallocated")?;
    let reserved = bulkhead_sys::file::reserve(file, 0, size);
    match (how, reserved) {
        (Preallocation::Falloc, reserved) => Ok(reserved?),
        // Room that is only promised may need to be made when it is written: what is full is written.
        _ => write_zeroes(file, size),
    }
}

/// Writes zeroes where the file has holes, and over what was only reserved.
fn write_zeroes(file: &File, size: u64) -> Result<()> {
    let zeroes = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let range = raw_range(file, at, size - at);
        let end = at + range.length;
        while range.zero && at < end {
            let len = (end - at).min(zeroes.len() as u64);
            file.write_all_at(&zeroes[..len as usize], at)?;
            at += len;
        }
        at = end;
    }
    Ok(())
}
