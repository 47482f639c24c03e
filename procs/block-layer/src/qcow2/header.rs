//! The header: what an image says about itself, and what of it is believed.
//!
//! [`Header::read`] takes the first bytes of a file and refuses, by name, whatever this version does not
//! know or a mutated file got wrong. Everything in a [`Header`] is checked against the specification's
//! and QEMU's limits, so that nothing behind it allocates by the image's word alone.
//!
//! Names of other files are carried as text. Nobody here opens them.

pub mod extensions;
mod features;
mod replace;
mod write;

use super::OpenError;
use super::geometry::{END_OF_OFFSETS, Geometry};

pub use extensions::Extensions;
pub use features::{autoclear, compatible, incompatible};
pub use replace::replace;
pub use write::encode;

/// `QFI\xfb`.
pub const MAGIC: u32 = 0x5146_49fb;

/// Bytes of a version 2 header.
const V2_BYTES: usize = 72;

/// Bytes of a version 3 header without the compression type.
const V3_BYTES: usize = 104;

/// Bytes of the header that this version writes.
pub const OWN_BYTES: usize = 112;

/// Most bytes of an L1 table, as in QEMU.
pub const MOST_L1_BYTES: u64 = 32 << 20;

/// Most bytes of a refcount table, as in QEMU.
pub const MOST_REFTABLE_BYTES: u64 = 8 << 20;

/// Most snapshots, as in QEMU.
const MOST_SNAPSHOTS: u32 = 65536;

/// The encryption method that there is.
pub const LUKS: u32 = 2;

/// Most bytes of a LUKS header with its keys: eight slots of four thousand stripes, and room to spare.
const MOST_ENCRYPTION_BYTES: u64 = 16 << 20;

/// Longest name of a backing file.
const LONGEST_NAME: u64 = 1023;

/// Bytes of an image that [`Header::read`] wants to see: a largest cluster would be too much for the
/// purpose, and nobody's extensions are longer.
pub const PROLOGUE: usize = 64 * 1024;

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate with a window of 4 KiB.
    Zlib,
    /// A Zstandard frame.
    Zstd,
}

impl Compression {
    /// As QEMU calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

/// A checked header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Sizes.
    pub geometry: Geometry,
    /// Bytes of the disk.
    pub size: u64,
    /// Entries of the L1 table.
    pub l1_entries: u32,
    /// Where it is.
    pub l1_at: u64,
    /// Where the refcount table is.
    pub reftable_at: u64,
    /// Clusters it has.
    pub reftable_clusters: u32,
    /// Internal snapshots.
    pub snapshots: u32,
    /// Where their table is.
    pub snapshots_at: u64,
    /// [`incompatible`].
    pub incompatible: u64,
    /// [`compatible`].
    pub compatible: u64,
    /// [`autoclear`].
    pub autoclear: u64,
    /// Of compressed clusters.
    pub compression: Compression,
    /// Bytes of the header proper.
    pub bytes: u32,
    /// Name of the backing file.
    pub backing: Option<String>,
    /// What follows the header.
    pub extensions: Extensions,
}

/// Big-endian numbers at offsets that the caller has checked; missing bytes are zeroes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default())
    }

    fn u64(&self, at: usize) -> u64 {
        let bytes = self.0.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_be_bytes(bytes.unwrap_or_default())
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, OpenError> {
    Err(OpenError::Header(what.into()))
}

impl Header {
    /// Reads the header from the first [`PROLOGUE`] bytes of a file, fewer if it is shorter.
    pub fn read(bytes: &[u8]) -> Result<Self, OpenError> {
        let fields = Fields(bytes);
        if bytes.len() < V2_BYTES || fields.u32(0) != MAGIC {
            return Err(OpenError::Format);
        }
        let version = fields.u32(4);
        let (own, least) = match version {
            2 => (V2_BYTES as u32, V2_BYTES),
            3 => (fields.u32(100), V3_BYTES),
            version => return Err(OpenError::Version(version)),
        };
        let cluster_bits = fields.u32(20);
        if !(9..=21).contains(&cluster_bits) {
            return wrong(format!("clusters of 2^{cluster_bits} bytes"));
        }
        if (own as usize) < least || !own.is_multiple_of(8) || own > 1 << cluster_bits {
            return wrong(format!("a header of {own} bytes"));
        }
        if own as usize > bytes.len() {
            return wrong("the file ends within the header");
        }
        let v3 = |at| if version == 3 { fields.u64(at) } else { 0 };
        let incompatible = v3(72);
        let extensions = Extensions::read(bytes, own as usize, &fields, cluster_bits)?;
        features::refuse_unknown(incompatible, &extensions)?;
        match (fields.u32(32), extensions.encryption.is_some()) {
            (0, false) | (LUKS, true) => {}
            (1, _) => return Err(OpenError::OldEncryption),
            (LUKS, false) => return wrong("it is encrypted, and has no encryption header"),
            (method, _) => return wrong(format!("encryption method {method}")),
        }
        let refcount_order = if version == 3 { fields.u32(96) } else { 4 };
        if refcount_order > 6 {
            return wrong(format!("refcounts of 2^{refcount_order} bits"));
        }
        let extended = incompatible & incompatible::EXTENDED_L2 != 0;
        if extended && cluster_bits < 14 {
            return wrong("extended L2 entries with clusters of less than 16 KiB");
        }
        let header = Self {
            version,
            geometry: Geometry { cluster_bits, refcount_order, extended },
            size: fields.u64(24),
            l1_entries: fields.u32(36),
            l1_at: fields.u64(40),
            reftable_at: fields.u64(48),
            reftable_clusters: fields.u32(56),
            snapshots: fields.u32(60),
            snapshots_at: fields.u64(64),
            incompatible,
            compatible: v3(80),
            autoclear: v3(88),
            compression: compression(bytes, own, incompatible)?,
            bytes: own,
            backing: backing(bytes, &fields, cluster_bits)?,
            extensions,
        };
        header.check()?;
        Ok(header)
    }

    /// Whether a feature bit is set.
    pub fn has(&self, incompatible: u64) -> bool {
        self.incompatible & incompatible != 0
    }

    /// Whether guest data lies in a file of its own.
    pub fn has_data_file(&self) -> bool {
        self.has(incompatible::EXTERNAL_DATA)
    }

    /// Whether that file is the disk as it is.
    pub fn is_data_file_raw(&self) -> bool {
        self.autoclear & autoclear::RAW_EXTERNAL_DATA != 0
    }

    /// Whether there are persistent bitmaps, and nobody wrote the image without knowing them.
    pub fn has_bitmaps(&self) -> bool {
        let some = self.extensions.bitmaps.is_some_and(|bitmaps| bitmaps.count > 0);
        some && self.autoclear & autoclear::BITMAPS != 0
    }

    fn check(&self) -> Result<(), OpenError> {
        let geometry = self.geometry;
        let table = |name: &str, at: u64, bytes: u64, most: u64| {
            let end = at.checked_add(bytes);
            match end {
                _ if bytes > most => wrong(format!("its {name} has {bytes} bytes")),
                Some(end) if geometry.is_start(at) && end < END_OF_OFFSETS => Ok(()),
                _ => wrong(format!("its {name} at {at:#x}")),
            }
        };
        let l1_bytes = u64::from(self.l1_entries) * 8;
        table("L1 table", self.l1_at, l1_bytes, MOST_L1_BYTES)?;
        let reftable = u64::from(self.reftable_clusters) << geometry.cluster_bits;
        table("refcount table", self.reftable_at, reftable, MOST_REFTABLE_BYTES)?;
        if self.reftable_clusters == 0 || self.reftable_at == 0 {
            return wrong("it has no refcount table");
        }
        if self.snapshots > MOST_SNAPSHOTS {
            return wrong(format!("it has {} snapshots", self.snapshots));
        }
        if self.snapshots > 0 {
            table("snapshot table", self.snapshots_at, 0, 0)?;
        }
        if self.size > i64::MAX as u64 || geometry.l1_entries(self.size) > self.l1_entries.into() {
            return wrong(format!("its L1 table is too small for {} bytes", self.size));
        }
        if self.l1_entries > 0 && self.l1_at == 0 {
            return wrong("its L1 table lies in its header");
        }
        if let Some(encryption) = self.extensions.encryption {
            let most = MOST_ENCRYPTION_BYTES;
            table("encryption header", encryption.at, encryption.bytes, most)?;
            if encryption.at == 0 {
                return wrong("its encryption header lies in its header");
            }
            if self.has_data_file() {
                return wrong(
                    "encryption, which is not served together with an external data file",
                );
            }
        }
        if self.is_data_file_raw() && !self.has_data_file() {
            return wrong("a raw external data file, but no external data file");
        }
        Ok(())
    }
}

fn compression(bytes: &[u8], own: u32, features: u64) -> Result<Compression, OpenError> {
    let kind = if own as usize > V3_BYTES { bytes.get(V3_BYTES).copied() } else { None };
    let told = features & incompatible::COMPRESSION != 0;
    match (kind.unwrap_or(0), told) {
        (0, false) => Ok(Compression::Zlib),
        (1, true) => Ok(Compression::Zstd),
        (kind, false) => wrong(format!("compression type {kind} without its feature bit")),
        (kind, true) => Err(OpenError::Compression(kind)),
    }
}

fn backing(
    bytes: &[u8],
    fields: &Fields<'_>,
    cluster_bits: u32,
) -> Result<Option<String>, OpenError> {
    let (at, len) = (fields.u64(8), u64::from(fields.u32(16)));
    if at == 0 {
        return Ok(None);
    }
    let cluster = 1u64 << cluster_bits;
    if len > LONGEST_NAME || at >= cluster || at + len > cluster {
        return wrong("the name of its backing file lies outside of its first cluster");
    }
    let name = bytes.get(at as usize..(at + len) as usize);
    let Some(name) = name else {
        return wrong("the file ends within the name of its backing file");
    };
    Ok((len > 0).then(|| String::from_utf8_lossy(name).into_owned()))
}
