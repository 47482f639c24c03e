//! Making an image: a header, a refcount table with the blocks that count them all, an L1 table, and room for
//! the LUKS header of one that is encrypted, which is the caller's to write.
//!
//! ```text
//! header │ refcount table │ refcount blocks │ L1 table │ (LUKS header) │
//! ```

use super::count;
use super::geometry::Geometry;
use super::header::extensions::Encryption;
use super::header::{
    Compression, Extensions, Header, MOST_L1_BYTES, OWN_BYTES, autoclear, compatible, encode,
    incompatible,
};
use crate::memory::Heap;
use crate::outcome::Failure;
use crate::storage::Storage;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Bytes of the disk, a multiple of 512.
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
    /// Name of the backing file.
    pub backing: Option<String>,
    /// Its format.
    pub backing_format: Option<String>,
    /// Name of the external data file.
    pub data_file: Option<String>,
    /// Which is the disk as it is.
    pub data_file_raw: bool,
    /// Bytes of its LUKS header, if it is encrypted.
    pub encryption: Option<u64>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            size: 0,
            version: 3,
            cluster_size: 65536,
            refcount_bits: 16,
            lazy_refcounts: false,
            extended_l2: false,
            compression: Compression::Zlib,
            backing: None,
            backing_format: None,
            data_file: None,
            data_file_raw: false,
            encryption: None,
        }
    }
}

/// Why an image cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// Wishes that no image fulfils: the option, and what is wrong.
    #[error("{0}: {1}")]
    Option(&'static str, String),
    /// The host refused.
    #[error("the image cannot be written: {0}")]
    Host(#[from] Failure),
}

fn wrong<T>(option: &'static str, what: impl Into<String>) -> Result<T, CreateError> {
    Err(CreateError::Option(option, what.into()))
}

impl Wanted {
    /// Whether there can be such an image. Nothing is written.
    pub fn check(&self) -> Result<(), CreateError> {
        self.head(&self.header(self.geometry()?)).map(drop)
    }

    fn head(&self, header: &Header) -> Result<Vec<u8>, CreateError> {
        match encode(header) {
            Some(head) => Ok(head),
            None => {
                let what = "the names do not fit into a cluster of this size";
                wrong(if self.backing.is_some() { "backing_file" } else { "data_file" }, what)
            }
        }
    }

    fn geometry(&self) -> Result<Geometry, CreateError> {
        let cluster = self.cluster_size;
        if !cluster.is_power_of_two() || !(512..=2 << 20).contains(&cluster) {
            return wrong("cluster_size", "give a power of two between 512 and 2M");
        }
        if !self.refcount_bits.is_power_of_two() || self.refcount_bits > 64 {
            return wrong("refcount_bits", "give a power of two up to 64");
        }
        if self.version < 3 {
            self.refuse_old()?;
        }
        if self.extended_l2 && cluster < 16384 {
            return wrong("extended_l2", "it needs clusters of at least 16K");
        }
        if !self.size.is_multiple_of(512) {
            return wrong("size", "give a multiple of 512");
        }
        if self.data_file_raw && self.data_file.is_none() {
            return wrong("data_file_raw", "it needs data_file");
        }
        if self.data_file_raw && self.backing.is_some() {
            return wrong("backing_file", "data_file_raw excludes it");
        }
        if self.encryption.is_some() && self.data_file.is_some() {
            return wrong("data_file", "encryption excludes it");
        }
        let geometry = Geometry {
            cluster_bits: cluster.trailing_zeros(),
            refcount_order: self.refcount_bits.trailing_zeros(),
            extended: self.extended_l2,
        };
        if self.size > i64::MAX as u64 || geometry.l1_entries(self.size) * 8 > MOST_L1_BYTES {
            return wrong("size", "too large for clusters of this size");
        }
        Ok(geometry)
    }

    fn refuse_old(&self) -> Result<(), CreateError> {
        let remedy = "it needs compat=1.1";
        if self.refcount_bits != 16 {
            return wrong("refcount_bits", remedy);
        }
        if self.lazy_refcounts {
            return wrong("lazy_refcounts", remedy);
        }
        if self.extended_l2 {
            return wrong("extended_l2", remedy);
        }
        if self.compression != Compression::Zlib {
            return wrong("compression_type", remedy);
        }
        match self.data_file {
            Some(_) => wrong("data_file", remedy),
            None => Ok(()),
        }
    }

    fn header(&self, geometry: Geometry) -> Header {
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        let zstd = self.compression == Compression::Zstd;
        Header {
            version: self.version,
            geometry,
            size: self.size,
            l1_entries: geometry.l1_entries(self.size) as u32,
            l1_at: 0,
            reftable_at: 0,
            reftable_clusters: 0,
            snapshots: 0,
            snapshots_at: 0,
            incompatible: flag(self.data_file.is_some(), incompatible::EXTERNAL_DATA)
                | flag(zstd, incompatible::COMPRESSION)
                | flag(self.extended_l2, incompatible::EXTENDED_L2),
            compatible: flag(self.lazy_refcounts, compatible::LAZY_REFCOUNTS),
            autoclear: flag(self.data_file_raw, autoclear::RAW_EXTERNAL_DATA),
            compression: self.compression,
            bytes: OWN_BYTES as u32,
            backing: self.backing.clone(),
            extensions: Extensions {
                backing_format: self.backing_format.clone(),
                data_file: self.data_file.clone(),
                encryption: self.encryption.map(|bytes| Encryption { at: 0, bytes }),
                ..Extensions::default()
            },
        }
    }
}

/// Writes an empty image into an empty file.
pub async fn create<S: Storage>(file: &S, wanted: &Wanted) -> Result<(), CreateError> {
    let geometry = wanted.geometry()?;
    let cluster = geometry.cluster();
    let mut header = wanted.header(geometry);
    let l1_clusters = (u64::from(header.l1_entries) * 8).div_ceil(cluster).max(1);
    let keys = wanted.encryption.unwrap_or(0).div_ceil(cluster);
    // Blocks count themselves and the table that names them.
    let (mut blocks, mut tables) = (1, 1);
    loop {
        let all = 1 + tables + blocks + l1_clusters + keys;
        let next = (all.div_ceil(geometry.counts()), (blocks * 8).div_ceil(cluster));
        if next == (blocks, tables) {
            break;
        }
        (blocks, tables) = next;
    }
    header.reftable_at = cluster;
    header.reftable_clusters = tables as u32;
    let blocks_at = (1 + tables) * cluster;
    header.l1_at = blocks_at + blocks * cluster;
    if let Some(encryption) = &mut header.extensions.encryption {
        encryption.at = header.l1_at + l1_clusters * cluster;
    }
    let all = 1 + tables + blocks + l1_clusters + keys;
    let head = wanted.head(&header)?;
    let table: Vec<u8> =
        (0..blocks).flat_map(|block| (blocks_at + block * cluster).to_be_bytes()).collect();
    write_padded(file, cluster, table, tables * cluster).await?;
    let mut counts = vec![0; (blocks * cluster) as usize];
    for index in 0..all {
        count::set(geometry, &mut counts, index as usize, 1);
    }
    write_padded(file, blocks_at, counts, blocks * cluster).await?;
    write_padded(file, header.l1_at, Vec::new(), (l1_clusters + keys) * cluster).await?;
    // The header last: what has none is no image.
    file.sync().await?;
    write_padded(file, 0, head, cluster).await?;
    file.sync().await?;
    Ok(())
}

async fn write_padded<S: Storage>(
    file: &S,
    at: u64,
    mut bytes: Vec<u8>,
    len: u64,
) -> Result<(), Failure> {
    bytes.resize(len as usize, 0);
    file.write(at, Heap::copy_of(&bytes).into()).await
}
