//! What is kept in images: snapshots and bitmaps.

use std::path::PathBuf;

use clap::Args;

use super::{Format, Share};
use crate::size;

const SNAPSHOT: &str = "\
Examples:
  bulkhead-img snapshot -c monday disk.q
  bulkhead-img snapshot -l disk.q
  bulkhead-img snapshot -a monday disk.q";

const BITMAP: &str = "\
Examples:
  bulkhead-img bitmap --add -g 64k disk.q daily
  bulkhead-img bitmap --merge daily -b old.q disk.q all";

/// `snapshot`
#[derive(Debug, Args)]
#[command(after_help = SNAPSHOT)]
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
    #[command(flatten)]
    /// Who else uses it
    pub share: Share,
    /// The image
    pub file: PathBuf,
}

/// `bitmap`
#[derive(Debug, Args)]
#[command(after_help = BITMAP)]
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
