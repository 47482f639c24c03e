//! The command line: what may be typed, and its help. Names are qemu-img's.
//!
//! A room per topic: one [`image`], [`chain`]s of them, [`copy`] from one into another, what is [`kept`] in
//! them, [`mod@bench`].

pub mod bench;
pub mod chain;
pub mod copy;
pub mod image;
pub mod kept;

use std::path::PathBuf;

use bulkhead_protocol::block::LayerFormat;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Formats are always stated and never guessed. Sizes take k, M, G, T and P, powers of 1024.
An image may lie on an NBD server: nbd://HOST[:PORT]/NAME, nbd+unix:///NAME?socket=PATH, with TLS nbds….

Exit codes:
  0  as asked
  1  something failed, in one line on the standard error; compare: the disks differ
  2  the command line cannot be; check: errors were found; compare: something failed
  3  check: clusters are leaked, and nothing else is wrong";

/// Makes, checks, converts and compares disk images, in a sealed process.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-img", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// Layers of the sandbox that this host may lack, as `bulkhead run` names them
    #[arg(
        long = "allow-weaker-sandbox",
        value_name = "LAYER",
        value_delimiter = ',',
        global = true,
        hide_short_help = true
    )]
    pub weaker: Vec<String>,
    /// Folder of ca-cert.pem and, if a server asks, client-cert.pem and client-key.pem, for nbds:// and
    /// nbds+unix://
    #[arg(long, value_name = "DIR", global = true, hide_short_help = true)]
    pub tls_creds: Option<PathBuf>,
    /// The name of the servers' certificate, if not their host's
    #[arg(long, value_name = "NAME", global = true, hide_short_help = true)]
    pub tls_hostname: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an image
    Create(image::Create),
    /// Say what an image is
    Info(image::Info),
    /// Check an image's metadata, and repair it
    Check(image::Check),
    /// Say where every byte of a disk is
    Map(chain::Map),
    /// Copy disks into another image
    Convert(copy::Convert),
    /// Compare what two disks read as
    Compare(copy::Compare),
    /// Change the size of a disk
    Resize(image::Resize),
    /// Say how much room an image would need
    Measure(copy::Measure),
    /// Give an image another backing file
    Rebase(chain::Rebase),
    /// Move what an image has into its backing file
    Commit(chain::Commit),
    /// Change the options of an image
    Amend(image::Amend),
    /// Copy a part of a disk into another image
    Dd(copy::Dd),
    /// Measure how fast requests are
    Bench(bench::Bench),
    /// Add, remove and change persistent bitmaps
    Bitmap(kept::Bitmap),
    /// List, take, go back to and remove internal snapshots
    Snapshot(kept::Snapshot),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// `completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Prints a completion script.
pub fn completions(options: &Completions) {
    let mut command = Arguments::command();
    clap_complete::generate(options.shell, &mut command, "bulkhead-img", &mut std::io::stdout());
}

/// A format. Always stated, never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Bytes as they are
    Raw,
    /// QEMU's format
    Qcow2,
    /// A LUKS volume, version 1
    Luks,
}

impl Format {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Luks => "luks",
        }
    }

    /// As a block-tool is told.
    pub fn plan(self) -> LayerFormat {
        match self {
            Self::Raw => LayerFormat::Raw,
            Self::Qcow2 => LayerFormat::Qcow2,
            Self::Luks => LayerFormat::Luks,
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
    /// The backing files that headers name, with their formats, for images that you trust
    #[arg(long, conflicts_with = "backing")]
    pub backing_chain: bool,
    /// The external data file
    #[arg(long, value_name = "PATH")]
    pub data_file: Option<PathBuf>,
    /// A file whose bytes are the passphrase of a LUKS volume or an encrypted image
    #[arg(long, value_name = "FILE")]
    pub key_secret: Option<PathBuf>,
}

/// Whether a program that uses an image is in the way.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Share {
    /// Read it although another program may be writing it
    #[arg(short = 'U', long)]
    pub force_share: bool,
}

/// `FORMAT:PATH`
pub fn layer(text: &str) -> Result<(Format, PathBuf), String> {
    let (format, path) = text.split_once(':').ok_or("write qcow2:PATH or raw:PATH")?;
    Ok((Format::from_str(format, false)?, path.into()))
}
