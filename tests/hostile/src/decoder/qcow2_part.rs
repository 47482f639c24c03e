//! One structure of a qcow2 image under attack, in an image that is right otherwise, so that what lies
//! behind it is reached.

use std::sync::OnceLock;

use bulkhead_block_layer::memory::Heap;
use bulkhead_block_layer::qcow2::create::{Wanted, create};
use bulkhead_block_layer::qcow2::header::Compression;
use bulkhead_block_layer::qcow2::journal::Nothing;
use bulkhead_block_layer::qcow2::{Files, Options, Qcow2};
use bulkhead_block_layer::storage::memory::MemoryFile;
use bulkhead_block_layer::task::finish;

use super::{Verdict, qcow2};

const CLUSTER: usize = 4096;

/// Bits of an entry that say where something is.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// A structure, and what is taken of the input for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first cluster.
    Header,
    /// The L1 table, and the L2 table behind it in the input.
    Tables,
    /// The refcount table, and its first block behind it in the input.
    Counts,
    /// The snapshot table.
    Snapshots,
    /// The bitmap directory, and the table of a bitmap behind it in the input.
    Bitmaps,
    /// A compressed cluster; its compression by the first byte.
    Packed,
}

/// An image, and where its parts are.
struct Image {
    bytes: Vec<u8>,
    packed_at: usize,
    packed_len: usize,
}

impl Image {
    fn new(compression: Compression) -> Self {
        let file = MemoryFile::default();
        let wanted = Wanted {
            size: 256 << 10,
            cluster_size: CLUSTER as u64,
            compression,
            ..Wanted::default()
        };
        finish(create(&file, &wanted)).expect("an image");
        let files = Files { file: file.clone(), data: None, backing: None };
        let image =
            finish(Qcow2::open(files, Box::new(Nothing), Options::WRITE)).expect("an image");
        let write = |at, len: usize| {
            finish(image.write(at, Heap::copy_of(&vec![3; len]).into())).expect("a write");
        };
        write(1024, 20_000);
        finish(image.snapshot_create("one", 1, 2)).expect("a snapshot");
        finish(image.bitmap_add("changes", 512, true)).expect("a bitmap");
        finish(image.bitmap_add("off", 65536, false)).expect("a bitmap");
        write(9000, 9000);
        let text: Vec<u8> = (0..CLUSTER).map(|n| (n / 100) as u8).collect();
        finish(image.write_compressed(60 << 10, Heap::copy_of(&text).into())).expect("a write");
        finish(image.zero(100 << 10, 8192, true)).expect("zeroes");
        finish(image.shut()).expect("a close");
        let mut made = Self { bytes: file.bytes(), packed_at: 0, packed_len: 0 };
        let table = (made.number(made.field(40)) & OFFSET) as usize;
        let descriptor = made.number(table + (60 << 10) / CLUSTER * 8);
        made.packed_at = (descriptor & ((1 << 58) - 1)) as usize;
        made.packed_len = ((descriptor >> 58 & 15) + 1) as usize * 512 - made.packed_at % 512;
        made
    }

    fn of(compression: Compression) -> &'static Self {
        static ZLIB: OnceLock<Image> = OnceLock::new();
        static ZSTD: OnceLock<Image> = OnceLock::new();
        let image = if compression == Compression::Zlib { &ZLIB } else { &ZSTD };
        image.get_or_init(|| Self::new(compression))
    }

    fn number(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    /// A place that the header names.
    fn field(&self, at: usize) -> usize {
        self.number(at) as usize
    }

    /// Where a part is: (place, bytes) in the order of the input.
    fn places(&self, part: Part) -> Vec<(usize, usize)> {
        let behind = |at: usize| (self.number(at) & OFFSET) as usize;
        match part {
            Part::Header => vec![(0, 512)],
            Part::Tables => vec![(self.field(40), 64), (behind(self.field(40)), 640)],
            Part::Counts => vec![(self.field(48), 64), (behind(self.field(48)), 256)],
            Part::Snapshots => vec![(self.field(64), 128)],
            Part::Bitmaps => {
                // The bitmaps extension comes first.
                let directory = self.field(112 + 8 + 16);
                vec![(directory, 96), (self.field(directory), 64)]
            }
            Part::Packed => vec![(self.packed_at, self.packed_len)],
        }
    }
}

fn compression(part: Part, input: &[u8]) -> (Compression, &[u8]) {
    match (part, input.split_first()) {
        (Part::Packed, Some((1, rest))) => (Compression::Zstd, rest),
        (Part::Packed, Some((_, rest))) => (Compression::Zlib, rest),
        _ => (Compression::Zlib, input),
    }
}

/// The image with the part as the input has it.
pub fn run(part: Part, input: &[u8]) -> Verdict {
    let (compression, mut rest) = compression(part, input);
    let image = Image::of(compression);
    let mut bytes = image.bytes.clone();
    for (at, len) in image.places(part) {
        let (own, others) = rest.split_at(len.min(rest.len()));
        bytes[at..at + own.len()].copy_from_slice(own);
        rest = others;
    }
    qcow2::attempt(&bytes)
}

/// The part as it is.
pub fn samples(part: Part) -> Vec<Vec<u8>> {
    let of = |compression, first: &[u8]| {
        let image = Image::of(compression);
        let parts = image.places(part).into_iter();
        let parts = parts.flat_map(|(at, len)| image.bytes[at..at + len].to_vec());
        first.iter().copied().chain(parts).collect()
    };
    match part {
        Part::Packed => vec![of(Compression::Zlib, &[0]), of(Compression::Zstd, &[1])],
        _ => vec![of(Compression::Zlib, &[])],
    }
}
