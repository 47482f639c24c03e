//! An image that is to be made.

use serde::{Deserialize, Serialize};

use crate::block::{LayerFormat, RemotePlan};

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Compression {
    /// Deflate.
    #[default]
    Zlib,
    /// Zstandard.
    Zstd,
}

/// What is done beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

/// What is wanted of it. Of a raw image only the size and the preallocation count. Descriptors: its file,
/// whatever is in it, or a socket to its server; its data file if it has one; its secret if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewImage {
    /// Its format.
    pub format: LayerFormat,
    /// Bytes of the disk; what copies a disk knows better.
    pub size: u64,
    /// 2 or 3.
    pub version: u32,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Bits of a refcount.
    pub refcount_bits: u32,
    /// The lazy-refcounts feature.
    pub lazy_refcounts: bool,
    /// Subclusters.
    pub extended_l2: bool,
    /// Of compressed clusters.
    pub compression: Compression,
    /// Name of the backing file, which is not opened here.
    pub backing: Option<String>,
    /// Its format.
    pub backing_format: Option<String>,
    /// Name of the external data file.
    pub data_file: Option<String>,
    /// Which is the disk as it is.
    pub data_file_raw: bool,
    /// What is done beforehand.
    pub preallocation: Preallocation,
    /// Where it is to lie, if on a server.
    pub remote: Option<RemotePlan>,
    /// It is encrypted.
    pub secret: bool,
}

impl NewImage {
    /// An empty image with QEMU's defaults.
    pub fn new(format: LayerFormat) -> Self {
        Self {
            format,
            size: 0,
            version: 3,
            cluster_size: 65536,
            refcount_bits: 16,
            lazy_refcounts: false,
            extended_l2: false,
            compression: Compression::default(),
            backing: None,
            backing_format: None,
            data_file: None,
            data_file_raw: false,
            preallocation: Preallocation::default(),
            remote: None,
            secret: false,
        }
    }

    /// Whether it has a second file.
    pub fn has_data_file(&self) -> bool {
        self.format == LayerFormat::Qcow2 && self.data_file.is_some()
    }

    /// Descriptors that it needs.
    pub fn fd_count(&self) -> usize {
        1 + usize::from(self.has_data_file()) + usize::from(self.secret)
    }
}
