//! A header as it is written into a fresh image.

use super::extensions::{
    BACKING_FORMAT, BITMAPS, DATA_FILE, ENCRYPTION, FEATURE_BYTES, FEATURE_NAMES,
};
use super::features::NAMES;
use super::{Compression, Header, LUKS, MAGIC, OWN_BYTES};

/// The bytes of a header with its extensions and the backing file's name; `None` if they do not fit
/// into a cluster. The names of features are left out first: they are for people.
pub fn encode(header: &Header) -> Option<Vec<u8>> {
    let cluster = header.geometry.cluster() as usize;
    [true, false].into_iter().map(|named| encode_with(header, named)).find(|b| b.len() <= cluster)
}

fn encode_with(header: &Header, named: bool) -> Vec<u8> {
    let mut bytes = fixed(header);
    bytes.extend(extensions(header, named));
    if let Some(name) = &header.backing {
        let at = bytes.len() as u64;
        bytes[8..16].copy_from_slice(&at.to_be_bytes());
        bytes[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
        bytes.extend(name.as_bytes());
    }
    bytes
}

/// The extensions with their end; those that say where something is come first.
pub(super) fn extensions(header: &Header, named: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let extensions = &header.extensions;
    if let Some(encryption) = &extensions.encryption {
        let words = [encryption.at, encryption.bytes].into_iter().flat_map(u64::to_be_bytes);
        extend(&mut bytes, ENCRYPTION, &words.collect::<Vec<u8>>());
    }
    if let Some(bitmaps) = &extensions.bitmaps {
        let mut data = words([bitmaps.count, 0]).collect::<Vec<u8>>();
        data.extend(bitmaps.directory_bytes.to_be_bytes());
        data.extend(bitmaps.directory_at.to_be_bytes());
        extend(&mut bytes, BITMAPS, &data);
    }
    if let Some(format) = &extensions.backing_format {
        extend(&mut bytes, BACKING_FORMAT, format.as_bytes());
    }
    if let Some(name) = &extensions.data_file {
        extend(&mut bytes, DATA_FILE, name.as_bytes());
    }
    if header.version > 2 && named {
        extend(&mut bytes, FEATURE_NAMES, &names());
    }
    for (kind, data) in &extensions.foreign {
        extend(&mut bytes, *kind, data);
    }
    bytes.extend([0; 8]);
    bytes
}

/// The numbers of a header, in their order; where the backing file's name is comes once it is known.
pub(super) fn fixed(header: &Header) -> Vec<u8> {
    let geometry = header.geometry;
    let mut bytes = Vec::with_capacity(1024);
    bytes.extend(words([MAGIC, header.version, 0, 0, 0, geometry.cluster_bits]));
    bytes.extend(header.size.to_be_bytes());
    let encryption = if header.extensions.encryption.is_some() { LUKS } else { 0 };
    bytes.extend(words([encryption, header.l1_entries]));
    bytes.extend(header.l1_at.to_be_bytes());
    bytes.extend(header.reftable_at.to_be_bytes());
    bytes.extend(words([header.reftable_clusters, header.snapshots]));
    bytes.extend(header.snapshots_at.to_be_bytes());
    if header.version > 2 {
        for features in [header.incompatible, header.compatible, header.autoclear] {
            bytes.extend(features.to_be_bytes());
        }
        bytes.extend(words([geometry.refcount_order, OWN_BYTES as u32]));
        bytes.extend([u8::from(header.compression == Compression::Zstd), 0, 0, 0, 0, 0, 0, 0]);
    }
    bytes
}

fn words<const N: usize>(words: [u32; N]) -> impl Iterator<Item = u8> {
    words.into_iter().flat_map(u32::to_be_bytes)
}

fn extend(bytes: &mut Vec<u8>, kind: u32, data: &[u8]) {
    bytes.extend(kind.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

fn names() -> Vec<u8> {
    let mut table = Vec::new();
    for (kind, bit, name) in NAMES {
        let mut entry = [0; FEATURE_BYTES];
        entry[..2].copy_from_slice(&[kind, bit]);
        entry[2..2 + name.len()].copy_from_slice(name.as_bytes());
        table.extend(entry);
    }
    table
}
