//! Feature bits: those this version knows, and how it refuses the others.

use super::Extensions;
use crate::qcow2::OpenError;

/// Bits without which an image must not be opened.
pub mod incompatible {
    /// Refcounts may be wrong.
    pub const DIRTY: u64 = 1 << 0;
    /// Somebody found the metadata broken.
    pub const CORRUPT: u64 = 1 << 1;
    /// Guest data lies in a file of its own.
    pub const EXTERNAL_DATA: u64 = 1 << 2;
    /// The header names a compression.
    pub const COMPRESSION: u64 = 1 << 3;
    /// L2 entries have subclusters.
    pub const EXTENDED_L2: u64 = 1 << 4;
    /// All of them.
    pub const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2;
}

/// Bits that whoever does not know them may ignore.
pub mod compatible {
    /// Refcounts may be written late, with the dirty bit set meanwhile. Nothing is gained by that here:
    /// they are written with the tables that refer to them.
    pub const LAZY_REFCOUNTS: u64 = 1 << 0;
}

/// Bits that whoever does not know them clears before writing.
pub mod autoclear {
    /// The bitmaps extension is consistent.
    pub const BITMAPS: u64 = 1 << 0;
    /// The external data file is the disk as it is.
    pub const RAW_EXTERNAL_DATA: u64 = 1 << 1;
    /// Both.
    pub const KNOWN: u64 = BITMAPS | RAW_EXTERNAL_DATA;
}

/// Names for bits: (kind, bit, name), as the feature name table has them.
pub const NAMES: [(u8, u8, &str); 8] = [
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];

/// Refuses bits nobody here knows, by the names that the image gives them.
pub fn refuse_unknown(features: u64, extensions: &Extensions) -> Result<(), OpenError> {
    let unknown = features & !incompatible::KNOWN;
    if unknown == 0 {
        return Ok(());
    }
    let name = |bit: u8| {
        let named = extensions.features.iter().find(|(kind, at, _)| (*kind, *at) == (0, bit));
        match named {
            Some((_, _, name)) => name.clone(),
            None => format!("bit {bit}"),
        }
    };
    let names: Vec<String> = (0..64).filter(|bit| unknown >> bit & 1 == 1).map(name).collect();
    Err(OpenError::Feature(names.join(", ")))
}
