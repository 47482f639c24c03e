//! Measuring.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Chain, Format, Share};
use crate::size;

const BENCH: &str = "\
Examples:
  bulkhead-img bench -f qcow2 -d 32 -c 100000 disk.q
  bulkhead-img bench -w -f raw -t none -s 64k disk.raw";

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
#[command(after_help = BENCH)]
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
    #[command(flatten)]
    /// Who else uses it
    pub share: Share,
    /// Say nothing
    #[arg(short = 'q')]
    pub quiet: bool,
    #[command(flatten)]
    /// Its files
    pub chain: Chain,
    /// The image
    pub file: PathBuf,
}
