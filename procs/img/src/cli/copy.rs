//! From one disk to another.

use std::path::PathBuf;

use clap::Args;

use super::{Chain, Format, Output, Share};
use crate::size;

const CONVERT: &str = "\
Examples:
  bulkhead-img convert -p -f raw -O qcow2 disk.raw disk.q
  bulkhead-img convert -c -f qcow2 --backing qcow2:base.q -O qcow2 -o compression_type=zstd overlay.q whole.q
  bulkhead-img convert -f qcow2 -l monday -O raw disk.q monday.raw
  bulkhead-img convert -f qcow2 --bitmaps -O qcow2 disk.q copy.q
  bulkhead-img convert -n -f qcow2 -O raw disk.q /dev/vg/disk
  bulkhead-img convert -f luks --key-secret passphrase.txt -O qcow2 volume.luks plain.q
  bulkhead-img convert -f raw -O raw nbd://server/disk disk.raw";

const COMPARE: &str = "\
Example:
  bulkhead-img compare -f qcow2 -F raw disk.q disk.raw

Exit codes: 0 the same, 1 different, 2 something failed.";

const MEASURE: &str = "\
Examples:
  bulkhead-img measure -O qcow2 --size 20G
  bulkhead-img measure -O qcow2 -f raw --output=json disk.raw";

const DD: &str = "\
Example:
  bulkhead-img dd -f qcow2 -O raw bs=1M skip=1 count=16 if=disk.q of=part.raw";

/// `convert`
#[derive(Debug, Args)]
#[command(after_help = CONVERT)]
pub struct Convert {
    /// Format of the sources
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Format of the target
    #[arg(short = 'O', value_name = "FORMAT")]
    pub target_format: Format,
    /// Options of the target's format: NAME=VALUE,…
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Compress the target's clusters
    #[arg(short = 'c')]
    pub compress: bool,
    /// An internal snapshot of the source, by id or name, instead of what it is now
    #[arg(short = 'l', value_name = "SNAPSHOT")]
    pub snapshot: Option<String>,
    /// The target is there: it keeps its format's options, and its size
    #[arg(short = 'n', conflicts_with = "options")]
    pub existing: bool,
    /// The target that is there reads as zeroes
    #[arg(long, requires = "existing")]
    pub target_is_zero: bool,
    /// Persistent bitmaps too
    #[arg(long)]
    pub bitmaps: bool,
    /// But not those that were not closed
    #[arg(long, requires = "bitmaps")]
    pub skip_broken_bitmaps: bool,
    /// Zeroes in a row that are not written; 0: everything is written
    #[arg(short = 'S', value_name = "SIZE", value_parser = size::parse, default_value = "4k")]
    pub sparse: u64,
    /// Pieces that are on their way at a time, 8 if not given; with -c threads that compress, as many as there
    /// are CPUs if not given
    #[arg(short = 'm', value_name = "PIECES", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub pieces: Option<u16>,
    /// Write in any order: clusters of a qcow2 image come to lie as they are written
    #[arg(short = 'W')]
    pub any_order: bool,
    /// Show progress
    #[arg(short = 'p')]
    pub progress: bool,
    /// Say nothing
    #[arg(short = 'q')]
    pub quiet: bool,
    #[command(flatten)]
    /// Who else uses it
    pub share: Share,
    #[command(flatten)]
    /// Files of the source
    pub chain: Chain,
    /// A file whose bytes are the passphrase of the target
    #[arg(long, value_name = "FILE")]
    pub target_key_secret: Option<PathBuf>,
    /// The sources, one behind the other, and the target
    #[arg(required = true, value_name = "SOURCE… TARGET")]
    pub files: Vec<PathBuf>,
}

/// `compare`
#[derive(Debug, Args)]
#[command(after_help = COMPARE)]
pub struct Compare {
    /// Format of the first
    #[arg(short = 'f', value_name = "FORMAT")]
    pub first_format: Format,
    /// Format of the second
    #[arg(short = 'F', value_name = "FORMAT")]
    pub second_format: Format,
    /// Sizes, and what is allocated, must be equal too
    #[arg(short = 's')]
    pub strict: bool,
    /// Say nothing but by the exit code
    #[arg(short = 'q')]
    pub quiet: bool,
    /// Show progress
    #[arg(short = 'p')]
    pub progress: bool,
    #[command(flatten)]
    /// Who else uses it
    pub share: Share,
    #[command(flatten)]
    /// Files of the first
    pub chain: Chain,
    /// A file whose bytes are the passphrase of the second
    #[arg(long, value_name = "FILE")]
    pub second_key_secret: Option<PathBuf>,
    /// The first
    pub first: PathBuf,
    /// The second
    pub second: PathBuf,
}

/// `measure`
#[derive(Debug, Args)]
#[command(after_help = MEASURE)]
pub struct Measure {
    /// Format of the image that is planned
    #[arg(short = 'O', value_name = "FORMAT")]
    pub target_format: Format,
    /// Options of that format: NAME=VALUE,…
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Bytes of the disk, if there is none yet
    #[arg(long, value_parser = size::parse)]
    pub size: Option<u64>,
    /// Format of the disk
    #[arg(short = 'f', value_name = "FORMAT", requires = "file")]
    pub format: Option<Format>,
    /// An internal snapshot of the disk, by id or name
    #[arg(short = 'l', value_name = "SNAPSHOT", requires = "file")]
    pub snapshot: Option<String>,
    #[command(flatten)]
    /// Who else uses it
    pub share: Share,
    /// How to print
    #[arg(long, default_value = "human")]
    pub output: Output,
    #[command(flatten)]
    /// Its files
    pub chain: Chain,
    /// The disk
    pub file: Option<PathBuf>,
}

/// `dd`
#[derive(Debug, Args)]
#[command(after_help = DD)]
pub struct Dd {
    /// Format of the source
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Format of the target
    #[arg(short = 'O', value_name = "FORMAT", default_value = "raw")]
    pub target_format: Format,
    #[command(flatten)]
    /// Who else uses it
    pub share: Share,
    #[command(flatten)]
    /// Files of the source
    pub chain: Chain,
    /// A file whose bytes are the passphrase of the target
    #[arg(long, value_name = "FILE")]
    pub target_key_secret: Option<PathBuf>,
    /// if=PATH of=PATH [bs=BYTES] [count=BLOCKS] [skip=BLOCKS]
    #[arg(required = true)]
    pub operands: Vec<String>,
}
