//! What a block-tool tells.

use bulkhead_channel::Message;
use serde::{Deserialize, Serialize};

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Bytes of the disk.
    pub size: u64,
    /// Of a qcow2 image.
    pub qcow2: Option<Qcow2Facts>,
    /// Of a LUKS volume, or of an encrypted image.
    pub luks: Option<LuksFacts>,
}

/// What a LUKS header says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LuksFacts {
    /// Bits of the cipher's key.
    pub key_bits: u32,
    /// `xts` or `cbc`.
    pub mode: String,
    /// Where a sector's encryption starts from: `plain64` or `essiv`.
    pub start: String,
    /// How keys are derived.
    pub hash: String,
    /// As text.
    pub uuid: String,
    /// Where the disk begins.
    pub payload: u64,
    /// Rounds of the key's digest.
    pub rounds: u32,
    /// Slots of keys.
    pub slots: Vec<SlotFacts>,
}

/// A slot of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotFacts {
    /// Where it is.
    pub at: u64,
    /// Rounds and stripes of the key in it, if there is one.
    pub key: Option<(u32, u32)>,
}

/// What a header says. Names are text from the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qcow2Facts {
    /// 2 or 3.
    pub version: u32,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Bits of a refcount.
    pub refcount_bits: u32,
    /// `zlib` or `zstd`.
    pub compression: String,
    /// The lazy-refcounts feature.
    pub lazy_refcounts: bool,
    /// The corrupt bit.
    pub corrupt: bool,
    /// The dirty bit.
    pub dirty: bool,
    /// Subclusters.
    pub extended_l2: bool,
    /// Name of the backing file.
    pub backing: Option<String>,
    /// Its format.
    pub backing_format: Option<String>,
    /// It has an external data file; its name, if the header has one.
    pub data_file: Option<String>,
    /// Which is the disk as it is.
    pub data_file_raw: bool,
}

/// An internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When: seconds since 1970.
    pub seconds: u32,
    /// And the rest of them.
    pub nanoseconds: u32,
    /// The guest's clock in nanoseconds.
    pub clock: u64,
    /// Bytes of a machine's state.
    pub state_bytes: u64,
    /// Instructions counted.
    pub icount: Option<u64>,
}

/// A persistent bitmap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BitmapFacts {
    /// Its name.
    pub name: String,
    /// Bytes of a granule.
    pub granularity: u64,
    /// It was not closed.
    pub in_use: bool,
    /// It records.
    pub enabled: bool,
}

/// The sums of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFacts {
    /// Errors left.
    pub corruptions: u64,
    /// Leaked clusters left.
    pub leaks: u64,
    /// Errors repaired.
    pub corruptions_fixed: u64,
    /// Leaked clusters given back.
    pub leaks_fixed: u64,
    /// Clusters of the disk.
    pub total: u64,
    /// Of them in the file.
    pub allocated: u64,
    /// Of them compressed.
    pub compressed: u64,
    /// Of them not behind the one before.
    pub fragmented: u64,
    /// Where the last cluster in use ends.
    pub image_end: u64,
}

/// A range of a disk of one kind, as `qemu-img map` tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// The layer that decides, 0 for the image itself.
    pub depth: u32,
    /// That layer has it, and it is not just missing everywhere.
    pub present: bool,
    /// It reads as zeroes.
    pub zero: bool,
    /// It takes room in a file.
    pub data: bool,
    /// It is compressed.
    pub compressed: bool,
    /// Where it is in that layer's file, if it is there as it is.
    pub offset: Option<u64>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compared {
    /// Both read the same.
    Equal,
    /// Sizes differ, which a strict comparison ends with.
    OtherSize,
    /// What is allocated differs at this byte, which a strict comparison ends with.
    OtherStatus(u64),
    /// They differ first in the sector at this byte.
    OtherBytes(u64),
}

/// To the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolEvent {
    /// So much of so much is done.
    Progress {
        /// Done.
        done: u64,
        /// Of.
        all: u64,
    },
    /// A target has nothing of what it held any more; before, nothing has changed.
    Emptied,
    /// `info`
    Image(Box<ImageFacts>),
    /// `info`, `snapshot`: one of several.
    Snapshot(SnapshotFacts),
    /// `info`: one of several.
    Bitmap(BitmapFacts),
    /// `check`: one of several, in words.
    Finding(String),
    /// `check`
    Checked(CheckFacts),
    /// `map`: the next of them.
    Ranges(Vec<Range>),
    /// `compare`: one disk is longer.
    SizesDiffer,
    /// `compare`
    Compared(Compared),
    /// `measure`: bytes.
    Measured {
        /// As the disk is.
        required: u64,
        /// With every cluster.
        full: u64,
        /// Of bitmaps, if the source has some that can be copied.
        bitmaps: Option<u64>,
    },
    /// `convert`: this bitmap was not closed, and was left out.
    BitmapSkipped(String),
    /// `bench`: the requests took so many nanoseconds.
    Ran(u64),
    /// All is done, and what was written is in the files.
    Done,
    /// It could not be done.
    Failed {
        /// Place of the file that is to blame among the command's descriptors.
        file: Option<u16>,
        /// Why.
        reason: String,
    },
}

impl Message for ToolEvent {}
