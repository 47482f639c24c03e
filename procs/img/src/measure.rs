//! `measure`: the room that an image would need.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::tool::{ToolCommand, ToolEvent};
use serde_json::json;

use crate::chain;
use crate::cli::Output;
use crate::cli::copy::Measure;
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::option::Wanted;
use crate::out;
use crate::tool::Front;

/// `measure`
pub fn run(options: &Measure, front: &mut Front) -> Result<ExitCode> {
    let Wanted { mut image, .. } = Wanted::read(options.target_format, &options.options)?;
    let disk = match (&options.file, options.format, options.size) {
        (Some(file), Some(format), None) => {
            let access = Access::reading(options.share.force_share);
            let chain = chain::of(&options.chain, format, file, options.share, front)?;
            Some(Disk::open(format, file, &chain, access)?)
        }
        (None, None, Some(size)) => {
            image.size = size;
            None
        }
        _ => bail!("give either --size SIZE, or -f FORMAT and a disk"),
    };
    let mut measured = None;
    let command = ToolCommand::Measure {
        disk: disk.as_ref().map(|disk| disk.plan.clone()),
        snapshot: options.snapshot.clone(),
        image,
    };
    front.run(command, &files(&disk), |event| {
        if let ToolEvent::Measured { required, full, bitmaps } = event {
            measured = Some((required, full, bitmaps));
        }
        Ok(())
    })?;
    let (required, full, bitmaps) = measured.context("nothing was measured")?;
    if options.output == Output::Json {
        let mut facts = json!({ "required": required, "fully-allocated": full });
        if let Some(bitmaps) = bitmaps {
            facts["bitmaps"] = json!(bitmaps);
        }
        out::line(serde_json::to_string_pretty(&facts)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    out::line(format_args!("required size: {required}"))?;
    out::line(format_args!("fully allocated size: {full}"))?;
    if let Some(bitmaps) = bitmaps {
        out::line(format_args!("bitmaps size: {bitmaps}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
