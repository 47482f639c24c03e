//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::size;

/// Makes, checks, converts and compares disk images.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-img", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an image
    Create(Create),
    /// Say what an image is
    Info(Info),
    /// Check an image's metadata, and repair it
    Check(Check),
    /// Say where every byte of a disk is
    Map(Map),
    /// Copy a disk into another image
    Convert(Convert),
    /// Compare what two disks read as
    Compare(Compare),
    /// Change the size of a disk
    Resize(Resize),
    /// Say how much room an image would need
    Measure(Measure),
    /// Give an image another backing file
    Rebase(Rebase),
    /// Move what an image has into its backing file
    Commit(Commit),
    /// Change the options of an image
    Amend(Amend),
    /// Copy a part of a disk into another image
    Dd(Dd),
    /// Measure how fast requests are
    Bench(Bench),
    /// Add, remove and change persistent bitmaps
    Bitmap(Bitmap),
    /// List, take, go back to and remove internal snapshots
    Snapshot(Snapshot),
}

/// A format. Always stated, never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Bytes as they are
    Raw,
    /// QEMU's format
    Qcow2,
}

impl Format {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Human,
    /// For programs
    Json,
}

/// Files that belong to an image.
#[derive(Debug, Clone, Default, Args)]
pub struct Chain {
    /// A backing file; the nearest first
    #[arg(long = "backing", value_name = "FORMAT:PATH", value_parser = layer)]
    pub backing: Vec<(Format, PathBuf)>,
    /// The external data file
    #[arg(long, value_name = "PATH")]
    pub data_file: Option<PathBuf>,
}

fn layer(text: &str) -> Result<(Format, PathBuf), String> {
    let (format, path) = text.split_once(':').ok_or("write qcow2:PATH or raw:PATH")?;
    Ok((Format::from_str(format, false)?, path.into()))
}

/// `create`
#[derive(Debug, Args)]
pub struct Create {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Say nothing
    #[arg(short = 'q')]
    pub quiet: bool,
    /// Options of the format: NAME=VALUE,…
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Name of the backing file; it is written into the image, and opened only to learn a missing SIZE
    #[arg(short = 'b', value_name = "NAME", requires = "backing_format")]
    pub backing: Option<String>,
    /// Its format
    #[arg(short = 'F', value_name = "FORMAT")]
    pub backing_format: Option<Format>,
    /// The image
    pub file: PathBuf,
    /// Bytes of the disk; k, M, G, T are powers of 1024
    #[arg(value_parser = size::parse)]
    pub size: Option<u64>,
}

/// `info`
#[derive(Debug, Args)]
pub struct Info {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// How to print
    #[arg(long, default_value = "human")]
    pub output: Output,
    /// The image
    pub file: PathBuf,
}

/// What may be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Repair {
    /// Clusters that are counted and not used
    Leaks,
    /// All counts and flags
    All,
}

/// `check`
#[derive(Debug, Args)]
pub struct Check {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Repair
    #[arg(short = 'r', value_name = "WHAT")]
    pub repair: Option<Repair>,
    /// Say nothing but by the exit code
    #[arg(short = 'q')]
    pub quiet: bool,
    /// How to print
    #[arg(long, default_value = "human")]
    pub output: Output,
    /// The image
    pub file: PathBuf,
}

/// `map`
#[derive(Debug, Args)]
pub struct Map {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// How to print
    #[arg(long, default_value = "human")]
    pub output: Output,
    #[command(flatten)]
    /// Its files
    pub chain: Chain,
    /// The image
    pub file: PathBuf,
}

/// `convert`
#[derive(Debug, Args)]
pub struct Convert {
    /// Format of the source
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
    /// Threads that compress; as many as there are CPUs if not given
    #[arg(short = 'm', value_name = "THREADS")]
    pub threads: Option<usize>,
    /// Show progress
    #[arg(short = 'p')]
    pub progress: bool,
    #[command(flatten)]
    /// Files of the source
    pub chain: Chain,
    /// The source
    pub source: PathBuf,
    /// The target, which is made
    pub target: PathBuf,
}

/// `compare`
#[derive(Debug, Args)]
pub struct Compare {
    /// Format of the first
    #[arg(short = 'f', value_name = "FORMAT")]
    pub first_format: Format,
    /// Format of the second
    #[arg(short = 'F', value_name = "FORMAT")]
    pub second_format: Format,
    /// Sizes must be equal too
    #[arg(short = 's')]
    pub strict: bool,
    /// Say nothing but by the exit code
    #[arg(short = 'q')]
    pub quiet: bool,
    #[command(flatten)]
    /// Files of the first
    pub chain: Chain,
    /// The first
    pub first: PathBuf,
    /// The second
    pub second: PathBuf,
}

/// `resize`
#[derive(Debug, Args)]
pub struct Resize {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Data may be cut off
    #[arg(long)]
    pub shrink: bool,
    /// Say nothing
    #[arg(short = 'q')]
    pub quiet: bool,
    #[command(flatten)]
    /// Its files
    pub chain: Chain,
    /// The image
    pub file: PathBuf,
    /// Bytes; with + or - more or fewer
    #[arg(allow_hyphen_values = true)]
    pub size: String,
}

/// `measure`
#[derive(Debug, Args)]
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
    /// How to print
    #[arg(long, default_value = "human")]
    pub output: Output,
    #[command(flatten)]
    /// Its files
    pub chain: Chain,
    /// The disk
    pub file: Option<PathBuf>,
}

/// `snapshot`
#[derive(Debug, Args)]
pub struct Snapshot {
    /// Format; only qcow2 has snapshots
    #[arg(short = 'f', value_name = "FORMAT", default_value = "qcow2")]
    pub format: Format,
    /// List them
    #[arg(short = 'l', group = "action")]
    pub list: bool,
    /// Go back to this one
    #[arg(short = 'a', value_name = "SNAPSHOT", group = "action")]
    pub apply: Option<String>,
    /// Take one
    #[arg(short = 'c', value_name = "SNAPSHOT", group = "action")]
    pub create: Option<String>,
    /// Remove this one
    #[arg(short = 'd', value_name = "SNAPSHOT", group = "action")]
    pub delete: Option<String>,
    /// Say nothing
    #[arg(short = 'q')]
    pub quiet: bool,
    /// The image
    pub file: PathBuf,
}

/// `bitmap`
#[derive(Debug, Args)]
pub struct Bitmap {
    /// Format; only qcow2 has bitmaps
    #[arg(short = 'f', value_name = "FORMAT", default_value = "qcow2")]
    pub format: Format,
    /// Add it, enabled unless --disable
    #[arg(long)]
    pub add: bool,
    /// Remove it
    #[arg(long)]
    pub remove: bool,
    /// Everything is clean
    #[arg(long)]
    pub clear: bool,
    /// Writes are recorded
    #[arg(long)]
    pub enable: bool,
    /// Writes are not recorded
    #[arg(long)]
    pub disable: bool,
    /// What is dirty in this one is dirty in it too
    #[arg(long, value_name = "BITMAP")]
    pub merge: Vec<String>,
    /// Bytes of a granule of an added bitmap
    #[arg(short = 'g', value_name = "SIZE", value_parser = size::parse)]
    pub granularity: Option<u64>,
    /// The image of the merged bitmap, if it is another
    #[arg(short = 'b', value_name = "FILE")]
    pub source: Option<PathBuf>,
    /// Its format
    #[arg(short = 'F', value_name = "FORMAT", default_value = "qcow2", requires = "source")]
    pub source_format: Format,
    /// The image
    pub file: PathBuf,
    /// The bitmap
    pub name: String,
}

/// A change of a bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BitmapChange {
    /// It is made.
    Add,
    /// It goes.
    Remove,
    /// All of it is clean.
    Clear,
    /// It records.
    Enable,
    /// It does not.
    Disable,
    /// It takes over what another has.
    Merge(String),
}

impl BitmapChange {
    /// As it is asked for.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Clear => "clear",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Merge(_) => "merge",
        }
    }
}

impl Bitmap {
    /// What is asked for. A new bitmap is made first, and one that goes goes last, wherever the options
    /// stand.
    pub fn changes(&self) -> anyhow::Result<Vec<BitmapChange>> {
        let wanted = [
            (self.add, BitmapChange::Add),
            (self.clear, BitmapChange::Clear),
            (self.enable, BitmapChange::Enable),
            (self.disable, BitmapChange::Disable),
        ];
        let mut changes: Vec<BitmapChange> =
            wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, change)| change).collect();
        changes.extend(self.merge.iter().cloned().map(BitmapChange::Merge));
        if self.remove {
            changes.push(BitmapChange::Remove);
        }
        if changes.is_empty() {
            anyhow::bail!(
                "say what to do: --add, --remove, --clear, --enable, --disable or --merge"
            );
        }
        if self.enable && self.disable {
            anyhow::bail!("--enable and --disable exclude each other");
        }
        Ok(changes)
    }
}

/// `rebase`
#[derive(Debug, Args)]
pub struct Rebase {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Only write the name: the disk may read as something else afterwards
    #[arg(short = 'u')]
    pub no_check: bool,
    /// Show progress
    #[arg(short = 'p')]
    pub progress: bool,
    /// Say nothing
    #[arg(short = 'q')]
    pub quiet: bool,
    /// Name of the new backing file, relative to the image; '' for none
    #[arg(short = 'b', value_name = "NAME")]
    pub backing_name: String,
    /// Its format
    #[arg(short = 'F', value_name = "FORMAT")]
    pub backing_format: Option<Format>,
    /// A file below the new backing file; the nearest first
    #[arg(long = "new-backing", value_name = "FORMAT:PATH", value_parser = layer)]
    pub new_backing: Vec<(Format, PathBuf)>,
    #[command(flatten)]
    /// Files of the image as it is
    pub chain: Chain,
    /// The image
    pub file: PathBuf,
}

/// `commit`
#[derive(Debug, Args)]
pub struct Commit {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// The backing file into which, if not the nearest; the image is not emptied then
    #[arg(short = 'b', value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// Do not empty the image
    #[arg(short = 'd')]
    pub keep: bool,
    /// Show progress
    #[arg(short = 'p')]
    pub progress: bool,
    /// Say nothing
    #[arg(short = 'q')]
    pub quiet: bool,
    #[command(flatten)]
    /// Its files
    pub chain: Chain,
    /// The image
    pub file: PathBuf,
}

/// `amend`
#[derive(Debug, Args)]
pub struct Amend {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Say nothing
    #[arg(short = 'q')]
    pub quiet: bool,
    /// compat, lazy_refcounts, refcount_bits, size, backing_file, backing_fmt: NAME=VALUE,…
    #[arg(short = 'o', value_name = "OPTIONS", required = true)]
    pub options: Vec<String>,
    /// The image
    pub file: PathBuf,
}

/// `dd`
#[derive(Debug, Args)]
pub struct Dd {
    /// Format of the source
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Format of the target
    #[arg(short = 'O', value_name = "FORMAT", default_value = "raw")]
    pub target_format: Format,
    #[command(flatten)]
    /// Files of the source
    pub chain: Chain,
    /// if=PATH of=PATH [bs=BYTES] [count=BLOCKS] [skip=BLOCKS]
    #[arg(required = true)]
    pub operands: Vec<String>,
}

/// How the host caches an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cache {
    /// Not at all
    None,
    /// In its page cache
    Writeback,
    /// In its page cache, and flushes are not waited for
    Unsafe,
}

/// `bench`
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Requests
    #[arg(short = 'c', value_name = "COUNT", default_value_t = 75_000)]
    pub count: u64,
    /// At a time
    #[arg(short = 'd', value_name = "DEPTH", default_value_t = 64)]
    pub depth: u64,
    /// Where the first is
    #[arg(short = 'o', value_name = "OFFSET", value_parser = size::parse, default_value = "0")]
    pub offset: u64,
    /// Bytes of each
    #[arg(short = 's', value_name = "SIZE", value_parser = size::parse, default_value = "4k")]
    pub size: u64,
    /// From one to the next; as many as it has bytes if not given
    #[arg(short = 'S', value_name = "STEP", value_parser = size::parse)]
    pub step: Option<u64>,
    /// Write
    #[arg(short = 'w')]
    pub write: bool,
    /// Flush after so many writes
    #[arg(long, value_name = "COUNT", requires = "write", value_parser = clap::value_parser!(u64).range(1..))]
    pub flush_interval: Option<u64>,
    /// The byte that is written
    #[arg(long, value_name = "BYTE", default_value_t = 0)]
    pub pattern: u8,
    /// How the host caches
    #[arg(short = 't', value_name = "CACHE", default_value = "writeback")]
    pub cache: Cache,
    /// Say nothing
    #[arg(short = 'q')]
    pub quiet: bool,
    #[command(flatten)]
    /// Its files
    pub chain: Chain,
    /// The image
    pub file: PathBuf,
}
