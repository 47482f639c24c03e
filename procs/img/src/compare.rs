//! `compare`. Exit codes as qemu-img's: 0 equal, 1 different, 2 on an error.

use std::process::ExitCode;

use anyhow::{Context, Result};
use bulkhead_protocol::tool::{Compared, ToolCommand, ToolEvent};

use crate::chain;
use crate::cli::Chain;
use crate::cli::copy::Compare;
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::out;
use crate::tool::Front;

/// Exit code of a comparison that could not be made.
pub const FAILED: u8 = 2;

/// `compare`
pub fn run(options: &Compare, front: &mut Front) -> Result<ExitCode> {
    front.show_progress(options.progress && !options.quiet);
    let tell = |text: &str| if options.quiet { Ok(()) } else { out::line(text) };
    let access = Access::reading(options.share.force_share);
    let (format, path) = (options.first_format, &options.first);
    let chain = chain::of(&options.chain, format, path, options.share, front)?;
    let first = Disk::open(format, path, &chain, access)?;
    let chain = Chain { key_secret: options.second_key_secret.clone(), ..Chain::default() };
    let second = Disk::open(options.second_format, &options.second, &chain, access)?;
    let command = ToolCommand::Compare {
        first: first.plan.clone(),
        second: second.plan.clone(),
        strict: options.strict,
    };
    let mut compared = None;
    front.run(command, &files([&first, &second]), |event| {
        match event {
            ToolEvent::SizesDiffer => tell("Warning: Image size mismatch!")?,
            ToolEvent::Compared(what) => compared = Some(what),
            _ => {}
        }
        Ok(())
    })?;
    let equal = match compared.context("nothing came of the comparison")? {
        Compared::Equal => {
            tell("Images are identical.")?;
            true
        }
        Compared::OtherSize => {
            tell("Strict mode: Image size mismatch!")?;
            false
        }
        Compared::OtherStatus(at) => {
            tell(&format!("Strict mode: Offset {at} block status mismatch!"))?;
            false
        }
        Compared::OtherBytes(at) => {
            tell(&format!("Content mismatch at offset {at}!"))?;
            false
        }
    };
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
