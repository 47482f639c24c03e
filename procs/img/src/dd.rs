//! `dd`: a part of a disk into a fresh image. The operands are dd's: `if=`, `of=`, `bs=`, `count=`,
//! `skip=`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::qcow2::Options;

use crate::cli;
use crate::convert::Copy;
use crate::create::{Parsed, Target};
use crate::disk::Files;
use crate::progress::Progress;
use crate::{seal, size};

/// Bytes of a block for which none were given.
const BLOCK: u64 = 512;

#[derive(Debug, Default)]
struct Operands {
    source: Option<PathBuf>,
    target: Option<PathBuf>,
    block: Option<u64>,
    count: Option<u64>,
    skip: u64,
}

impl Operands {
    fn read(operands: &[String]) -> Result<Self> {
        let mut read = Self::default();
        for operand in operands {
            let number = |text: &str| {
                size::parse(text).map_err(anyhow::Error::msg).with_context(|| operand.clone())
            };
            match operand.split_once('=') {
                Some(("if", path)) => read.source = Some(path.into()),
                Some(("of", path)) => read.target = Some(path.into()),
                Some(("bs", bytes)) => read.block = Some(number(bytes)?),
                Some(("count", blocks)) => read.count = Some(number(blocks)?),
                Some(("skip", blocks)) => read.skip = number(blocks)?,
                _ => bail!("'{operand}' is none of if=, of=, bs=, count=, skip="),
            }
        }
        Ok(read)
    }
}

/// `dd`
pub fn run(options: &cli::Dd) -> Result<ExitCode> {
    let operands = Operands::read(&options.operands)?;
    let source = operands.source.context("say what to read: if=PATH")?;
    let target = operands.target.context("say where to: of=PATH")?;
    let block = operands.block.unwrap_or(BLOCK);
    if block == 0 || block > i32::MAX as u64 {
        bail!("bs={block}: give 1 to 2G");
    }
    if std::fs::canonicalize(&target).ok() == std::fs::canonicalize(&source).ok() {
        bail!("{}: it is the source itself", target.display());
    }
    let files = Files::open(options.format, &source, &options.chain, true)?;
    let mut parsed = Parsed::default();
    let made = Target::make(options.target_format, &target, &parsed)?;
    seal::seal()?;
    let disk = files.disk(Options::READ)?;
    let end = operands.count.map_or(u64::MAX, |count| count.saturating_add(operands.skip));
    let end = end.saturating_mul(block).min(disk.size());
    let begin = operands.skip.saturating_mul(block).min(end);
    let len = end - begin;
    parsed.wanted.size = len.next_multiple_of(512);
    let made = made.fill(&parsed)?;
    Copy::new(&disk, &made, begin, len, Progress::new(false)).all()?;
    made.finish()?;
    Ok(ExitCode::SUCCESS)
}
