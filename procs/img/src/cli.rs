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
