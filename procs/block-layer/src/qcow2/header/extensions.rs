//! Header extensions. Those nobody here knows are kept as they are, as the specification asks.

use super::{Fields, LONGEST_NAME, wrong};
use crate::qcow2::OpenError;

/// Types of extensions.
mod kind {
    pub const END: u32 = 0;
    pub const BACKING_FORMAT: u32 = 0xe279_2aca;
    pub const FEATURE_NAMES: u32 = 0x6803_f857;
    pub const BITMAPS: u32 = 0x2385_2875;
    pub const ENCRYPTION: u32 = 0x0537_be77;
    pub const DATA_FILE: u32 = 0x4441_5441;
}

pub(super) use kind::{BACKING_FORMAT, BITMAPS, DATA_FILE, ENCRYPTION, FEATURE_NAMES};

/// Bytes of an entry of the feature name table: kind, bit, name.
pub(super) const FEATURE_BYTES: usize = 48;

/// What an image has of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Format of the backing file.
    pub backing_format: Option<String>,
    /// Name of the external data file.
    pub data_file: Option<String>,
    /// Persistent bitmaps.
    pub bitmaps: Option<Bitmaps>,
    /// Encryption of guest data.
    pub encryption: Option<Encryption>,
    /// Names of features: (kind, bit, name).
    pub features: Vec<(u8, u8, String)>,
    /// Others: (type, data).
    pub foreign: Vec<(u32, Vec<u8>)>,
}

/// The bitmaps extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bitmaps {
    /// How many.
    pub count: u32,
    /// Bytes of their directory.
    pub directory_bytes: u64,
    /// Where it is.
    pub directory_at: u64,
}

/// Where the LUKS header of an encrypted image is, with its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encryption {
    /// Its first byte.
    pub at: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl Extensions {
    pub(super) fn read(
        bytes: &[u8],
        first: usize,
        fields: &Fields<'_>,
        cluster_bits: u32,
    ) -> Result<Self, OpenError> {
        let mut found = Self::default();
        // They end where the backing file's name begins, or with the first cluster.
        let end = match fields.u64(8) {
            0 => 1u64 << cluster_bits,
            name => name.min(1 << cluster_bits),
        };
        let mut at = first;
        while (at as u64) + 8 <= end && at + 8 <= bytes.len() {
            let (kind, len) = (fields.u32(at), fields.u32(at + 4) as usize);
            at += 8;
            if kind == kind::END {
                break;
            }
            if len as u64 > end - at as u64 {
                return wrong(format!("its header extension {kind:#010x} of {len} bytes"));
            }
            let Some(data) = bytes.get(at..at + len) else {
                return wrong("the file ends within its header extensions");
            };
            found.add(kind, data)?;
            at += len.next_multiple_of(8);
        }
        Ok(found)
    }

    fn add(&mut self, kind: u32, data: &[u8]) -> Result<(), OpenError> {
        let fields = Fields(data);
        match kind {
            kind::BACKING_FORMAT if data.len() > 15 => {
                return wrong("the name of its backing format is too long");
            }
            kind::BACKING_FORMAT => self.backing_format = Some(text(data)),
            kind::DATA_FILE if data.len() as u64 > LONGEST_NAME => {
                return wrong("the name of its data file is too long");
            }
            kind::DATA_FILE => self.data_file = Some(text(data)),
            kind::FEATURE_NAMES => {
                let entries = data.chunks_exact(FEATURE_BYTES);
                self.features = entries.map(|e| (e[0], e[1], text(&e[2..]))).collect();
            }
            kind::BITMAPS if data.len() != 24 => {
                return wrong(format!("a bitmaps extension of {} bytes", data.len()));
            }
            kind::BITMAPS => {
                self.bitmaps = Some(Bitmaps {
                    count: fields.u32(0),
                    directory_bytes: fields.u64(8),
                    directory_at: fields.u64(16),
                });
            }
            kind::ENCRYPTION if data.len() != 16 => {
                return wrong(format!("an encryption extension of {} bytes", data.len()));
            }
            kind::ENCRYPTION => {
                self.encryption = Some(Encryption { at: fields.u64(0), bytes: fields.u64(8) });
            }
            kind => self.foreign.push((kind, data.to_vec())),
        }
        Ok(())
    }
}

/// Text up to the first zero byte.
fn text(data: &[u8]) -> String {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    String::from_utf8_lossy(&data[..end]).into_owned()
}
