//! Chains of images.

use std::path::PathBuf;

use clap::Args;

use super::{Chain, Format, Output, Share, layer};

const MAP: &str = "\
Examples:
  bulkhead-img map -f qcow2 disk.q
  bulkhead-img map -f qcow2 --backing qcow2:base.q --output=json overlay.q";

const REBASE: &str = "\
Examples:
  bulkhead-img rebase -f qcow2 --backing qcow2:old.q -b new.q -F qcow2 overlay.q
  bulkhead-img rebase -u -f qcow2 -b moved/base.q -F qcow2 overlay.q
  bulkhead-img rebase -f qcow2 --backing qcow2:base.q -b '' overlay.q";

const COMMIT: &str = "\
Examples:
  bulkhead-img commit -f qcow2 --backing qcow2:base.q overlay.q
  bulkhead-img commit -f qcow2 --backing qcow2:mid.q --backing raw:base.raw -b base.raw overlay.q";

/// `map`
#[derive(Debug, Args)]
#[command(after_help = MAP)]
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
    #[command(flatten)]
    /// Who else uses it
    pub share: Share,
    /// The image
    pub file: PathBuf,
}

/// `rebase`
#[derive(Debug, Args)]
#[command(after_help = REBASE)]
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
#[command(after_help = COMMIT)]
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
