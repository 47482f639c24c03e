//! One image: made, looked at, checked, resized, amended.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Chain, Format, Output, Share};
use crate::size;

const CREATE: &str = "\
Examples:
  bulkhead-img create -f qcow2 disk.q 20G
  bulkhead-img create -f qcow2 -o cluster_size=1M,compression_type=zstd disk.q 1T
  bulkhead-img create -f qcow2 -b base.q -F qcow2 overlay.q
  bulkhead-img create -f luks --key-secret passphrase.txt volume.luks 20G";

const INFO: &str = "\
Examples:
  bulkhead-img info -f qcow2 disk.q
  bulkhead-img info -f qcow2 --backing-chain --output=json overlay.q";

const CHECK: &str = "\
Examples:
  bulkhead-img check -f qcow2 disk.q
  bulkhead-img check -f qcow2 -r leaks disk.q

Exit codes: 0 nothing is wrong, 1 it could not be checked, 2 errors, 3 leaks only.";

const RESIZE: &str = "\
Examples:
  bulkhead-img resize -f qcow2 disk.q +10G
  bulkhead-img resize -f raw --shrink disk.raw 4G";

const AMEND: &str = "\
Examples:
  bulkhead-img amend -f qcow2 -o compat=1.1,lazy_refcounts=on disk.q
  bulkhead-img amend -f qcow2 -o refcount_bits=32 disk.q";

/// `create`
#[derive(Debug, Args)]
#[command(after_help = CREATE)]
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
    /// A file whose bytes are the passphrase: the image is encrypted
    #[arg(long, value_name = "FILE")]
    pub key_secret: Option<PathBuf>,
    /// The image
    pub file: PathBuf,
    /// Bytes of the disk; k, M, G, T are powers of 1024
    #[arg(value_parser = size::parse)]
    pub size: Option<u64>,
}

/// `info`
#[derive(Debug, Args)]
#[command(after_help = INFO)]
pub struct Info {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// How to print
    #[arg(long, default_value = "human")]
    pub output: Output,
    /// The backing files too, as the headers name them and their formats
    #[arg(long)]
    pub backing_chain: bool,
    #[command(flatten)]
    /// Who else uses it
    pub share: Share,
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
#[command(after_help = CHECK)]
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
    #[command(flatten)]
    /// Who else uses it
    pub share: Share,
    /// The image
    pub file: PathBuf,
}

/// What is done with what is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reserve {
    /// Nothing
    Off,
    /// The host has room for it
    Falloc,
    /// It is written
    Full,
}

/// `resize`
#[derive(Debug, Args)]
#[command(after_help = RESIZE)]
pub struct Resize {
    /// Format
    #[arg(short = 'f', value_name = "FORMAT")]
    pub format: Format,
    /// Data may be cut off
    #[arg(long)]
    pub shrink: bool,
    /// What is done with what is added to a raw image
    #[arg(long, value_name = "HOW", default_value = "off")]
    pub preallocation: Reserve,
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

/// `amend`
#[derive(Debug, Args)]
#[command(after_help = AMEND)]
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
