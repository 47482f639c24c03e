//! `dd`: a part of a disk into a fresh image. The operands are dd's: `if=`, `of=`, `bs=`, `count=`,
//! `skip=`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::tool::{NewImage, ToolCommand};

use crate::chain;
use crate::cli::copy::Dd;
use crate::convert::THREADS;
use crate::disk::Disk;
use crate::file::Access;
use crate::option::bytes;
use crate::target::Target;
use crate::tool::Front;

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
            let number = |text: &str| bytes(text).with_context(|| operand.clone());
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
pub fn run(options: &Dd, front: &mut Front) -> Result<ExitCode> {
    let operands = Operands::read(&options.operands)?;
    let source = operands.source.context("say what to read: if=PATH")?;
    let target = operands.target.context("say where to: of=PATH")?;
    let block = operands.block.unwrap_or(BLOCK);
    if block == 0 || block > i32::MAX as u64 {
        bail!("bs={block}: give 1 to 2G");
    }
    let access = Access::reading(options.share.force_share);
    let chain = chain::of(&options.chain, options.format, &source, options.share, front)?;
    let disk = Disk::open(options.format, &source, &chain, access)?;
    let mut image = NewImage::new(options.target_format.plan());
    let made = Target::make(&target, &mut image, options.target_key_secret.as_deref(), &[&disk])?;
    let command = ToolCommand::Dd {
        source: disk.plan.clone(),
        target: image,
        skip: operands.skip.saturating_mul(block),
        count: operands.count.map_or(u64::MAX, |count| count.saturating_mul(block)),
    };
    let files: Vec<_> = disk.files.iter().chain(made.files()).collect();
    let done = front.run_with(THREADS.into(), command, &files, |_| Ok(()));
    made.after(done, front.has_emptied())?;
    Ok(ExitCode::SUCCESS)
}
