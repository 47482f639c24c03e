//! `-o NAME=VALUE,…`: the options of formats, for all who make images.

use anyhow::{Context, Result, bail};
use bulkhead_protocol::tool::{Compression, NewImage, Preallocation};

use crate::cli::Format;
use crate::size;

/// An image that is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// It.
    pub image: NewImage,
    /// Its size, if one was given.
    pub size: Option<u64>,
}

impl Wanted {
    /// Reads the options.
    pub fn read(format: Format, options: &[String]) -> Result<Self> {
        let mut wanted = Self { image: NewImage::new(format.plan()), size: None };
        for (option, name, value) in pairs(options) {
            wanted.set(name, value).with_context(|| format!("-o {option}"))?;
        }
        Ok(wanted)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let image = &mut self.image;
        match name {
            "size" => self.size = Some(bytes(value)?),
            "compat" => image.version = version(value)?,
            "cluster_size" => image.cluster_size = bytes(value)?,
            "refcount_bits" => image.refcount_bits = value.parse()?,
            "lazy_refcounts" => image.lazy_refcounts = switch(value)?,
            "extended_l2" => image.extended_l2 = switch(value)?,
            "compression_type" => {
                image.compression = match value {
                    "zlib" => Compression::Zlib,
                    "zstd" => Compression::Zstd,
                    _ => bail!("write zlib or zstd"),
                }
            }
            "backing_file" => image.backing = Some(value.to_owned()),
            "backing_fmt" => image.backing_format = Some(value.to_owned()),
            "data_file" => image.data_file = Some(value.to_owned()),
            "encrypt.format" if value == "luks" => {}
            "encrypt.format" => bail!("write luks, and give --key-secret FILE"),
            "data_file_raw" => image.data_file_raw = switch(value)?,
            "preallocation" => {
                image.preallocation = match value {
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

/// Each option, with its name and its value.
pub fn pairs(options: &[String]) -> impl Iterator<Item = (&str, &str, &str)> {
    options.iter().flat_map(|text| text.split(',')).map(|option| {
        let (name, value) = option.split_once('=').unwrap_or((option, "on"));
        (option, name, value)
    })
}

/// A size.
pub fn bytes(value: &str) -> Result<u64> {
    size::parse(value).map_err(anyhow::Error::msg)
}

/// 2 or 3, by QEMU's names of them.
pub fn version(value: &str) -> Result<u32> {
    match value {
        "0.10" | "v2" => Ok(2),
        "1.1" | "v3" => Ok(3),
        _ => bail!("write 0.10 or 1.1"),
    }
}

/// On or off.
pub fn switch(value: &str) -> Result<bool> {
    match value {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => bail!("write on or off"),
    }
}
