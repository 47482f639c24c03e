//! Entries of L2 tables: what is where.
//!
//! An entry says where a cluster is in the file, if it is there, and which of its granules are. Without
//! subclusters a cluster is one granule; so both kinds of entries are one type, [`Mapping`], and only
//! [`Mapping::decode`] and [`Mapping::encode`] know the difference.

use super::geometry::{Geometry, OFFSET};

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// Bits that must be zero in the descriptor of a cluster that is not compressed, bit 0 aside.
const RESERVED: u64 = 0x3f00_0000_0000_01fe;

/// What one entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// The cluster is what its granules are.
    Plain(Granules),
    /// The cluster is compressed: `len` bytes at `at`, of which the last few may be somebody else's.
    Compressed {
        /// First byte in the file.
        at: u64,
        /// Bytes.
        len: u64,
    },
}

/// What a cluster's granules are. A granule that is neither allocated nor zero is the backing file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Granules {
    /// Where the cluster is.
    pub host: Option<u64>,
    /// Nobody else uses that cluster: it may be written in place.
    pub owned: bool,
    /// One bit for each granule that is there.
    pub allocated: u32,
    /// One bit for each granule that reads as zeroes.
    pub zero: u32,
}

impl Granules {
    /// All bits of a cluster's granules.
    pub fn all(geometry: Geometry) -> u32 {
        u32::MAX >> (32 - geometry.granules())
    }
}

/// An entry that the specification does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the L2 entry {descriptor:#018x}, {bitmap:#018x}")]
pub struct BadEntry {
    descriptor: u64,
    bitmap: u64,
}

impl Mapping {
    /// Reads an entry; `bitmap` is 0 without subclusters. `external`: data lies in another file, in
    /// which offset 0 is as good as any.
    pub fn decode(
        geometry: Geometry,
        version: u32,
        external: bool,
        descriptor: u64,
        bitmap: u64,
    ) -> Result<Self, BadEntry> {
        let bad = BadEntry { descriptor, bitmap };
        if descriptor & COMPRESSED != 0 {
            return match external {
                true => Err(bad),
                false => Ok(decode_compressed(geometry, descriptor)),
            };
        }
        let at = descriptor & OFFSET;
        let owned = descriptor & COPIED != 0;
        let host = (at != 0 || (external && owned)).then_some(at);
        if descriptor & RESERVED != 0
            || !geometry.is_start(at)
            || (version < 3 && descriptor & ZERO != 0)
        {
            return Err(bad);
        }
        let (allocated, zero) = match geometry.extended {
            false if descriptor & ZERO != 0 => (0, 1),
            false => (u32::from(host.is_some()), 0),
            true => (bitmap as u32, (bitmap >> 32) as u32),
        };
        let contradicts = allocated & zero != 0 || (allocated != 0 && host.is_none());
        if contradicts || (geometry.extended && descriptor & ZERO != 0) {
            return Err(bad);
        }
        Ok(Self::Plain(Granules { host, owned: owned && host.is_some(), allocated, zero }))
    }

    /// Writes an entry: descriptor and bitmap.
    pub fn encode(self, geometry: Geometry) -> (u64, u64) {
        match self {
            Self::Compressed { at, len } => (encode_compressed(geometry, at, len), 0),
            Self::Plain(Granules { host, owned, allocated, zero }) => {
                let copied = if owned { COPIED } else { 0 };
                let descriptor = host.map_or(0, |host| host | copied);
                match geometry.extended {
                    true => (descriptor, u64::from(zero) << 32 | u64::from(allocated)),
                    false => (descriptor | u64::from(zero & 1), 0),
                }
            }
        }
    }
}

/// Bits of the offset in a compressed cluster's descriptor.
fn offset_bits(geometry: Geometry) -> u32 {
    62 - (geometry.cluster_bits - 8)
}

fn decode_compressed(geometry: Geometry, descriptor: u64) -> Mapping {
    let bits = offset_bits(geometry);
    let at = descriptor & ((1 << bits) - 1);
    let more = (descriptor & !(COMPRESSED | COPIED)) >> bits;
    Mapping::Compressed { at, len: (more + 1) * 512 - at % 512 }
}

fn encode_compressed(geometry: Geometry, at: u64, len: u64) -> u64 {
    let more = (at + len - 1) / 512 - at / 512;
    COMPRESSED | more << offset_bits(geometry) | at
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Geometry = Geometry { cluster_bits: 16, refcount_order: 4, extended: false };
    const EXTENDED: Geometry = Geometry { extended: true, ..PLAIN };

    #[test]
    fn entries_come_back_as_they_were_written() {
        let owned = Granules { host: Some(0x50000), owned: true, allocated: 1, zero: 0 };
        let extended = Granules { allocated: 0x0f0f, zero: 0xf0f0, ..owned };
        let zero = Granules { zero: 1, ..Granules::default() };
        let packed = Mapping::Compressed { at: 0x12345, len: 0xabb };
        for (geometry, mapping) in [
            (PLAIN, Mapping::Plain(owned)),
            (PLAIN, Mapping::Plain(zero)),
            (PLAIN, Mapping::Plain(Granules { host: Some(0x50000), ..zero })),
            (PLAIN, Mapping::Plain(Granules::default())),
            (EXTENDED, Mapping::Plain(extended)),
            (PLAIN, packed),
        ] {
            let (descriptor, bitmap) = mapping.encode(geometry);
            assert_eq!(Mapping::decode(geometry, 3, false, descriptor, bitmap), Ok(mapping));
        }
    }

    #[test]
    fn what_the_specification_reserves_is_refused() {
        for (geometry, version, descriptor, bitmap) in [
            (PLAIN, 3, 0x50200, 0),
            (PLAIN, 3, 0x50002, 0),
            (PLAIN, 2, 1, 0),
            (EXTENDED, 3, 1, 0),
            (EXTENDED, 3, 0, 1),
            (EXTENDED, 3, 0x50000, 1 << 32 | 1),
        ] {
            let read = Mapping::decode(geometry, version, false, descriptor, bitmap);
            assert!(read.is_err(), "{descriptor:#x} {bitmap:#x}");
        }
    }
}
