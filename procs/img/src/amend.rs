//! `amend`: other options of an image that is there.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::tool::{Amendment, ToolCommand};

use crate::cli::image::Amend;
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::option::{bytes, pairs, switch, version};
use crate::tool::Front;

/// `amend`
pub fn run(options: &Amend, front: &mut Front) -> Result<ExitCode> {
    let mut amendments: Vec<Amendment> = Vec::new();
    for (option, name, value) in pairs(&options.options) {
        let amendment = amendment(name, value).with_context(|| format!("-o {option}"))?;
        add(&mut amendments, amendment);
    }
    amendments.sort_by_key(order);
    let disk = Disk::alone(options.format, &options.file, Access::WRITE)?;
    let command = ToolCommand::Amend { disk: disk.plan.clone(), amendments };
    front.run(command, &files([&disk]), |_| Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

fn amendment(name: &str, value: &str) -> Result<Amendment> {
    let text = || Some(value.to_owned());
    Ok(match name {
        "compat" => Amendment::Version(version(value)?),
        "lazy_refcounts" => Amendment::LazyRefcounts(switch(value)?),
        "refcount_bits" => Amendment::RefcountBits(value.parse()?),
        "size" => Amendment::Size(bytes(value)?),
        "backing_file" => Amendment::Backing { name: text(), format: None },
        "backing_fmt" => Amendment::Backing { name: None, format: text() },
        "cluster_size" | "extended_l2" | "compression_type" | "preallocation" | "data_file"
        | "data_file_raw" => {
            bail!("an image keeps this; convert it into one with the option instead")
        }
        _ => bail!("there is no such option"),
    })
}

/// Name and format of a backing file are one change.
fn add(amendments: &mut Vec<Amendment>, amendment: Amendment) {
    if let Amendment::Backing { name, format } = &amendment {
        for other in amendments.iter_mut() {
            if let Amendment::Backing { name: old_name, format: old_format } = other {
                *old_name = name.clone().or(old_name.take());
                *old_format = format.clone().or(old_format.take());
                return;
            }
        }
    }
    amendments.push(amendment);
}

/// Version 3 comes first, since others need it; back to version 2 an image goes last.
fn order(amendment: &Amendment) -> u8 {
    match amendment {
        Amendment::Version(2) => 5,
        Amendment::Version(_) => 0,
        Amendment::RefcountBits(_) => 1,
        Amendment::LazyRefcounts(_) => 2,
        Amendment::Backing { .. } => 3,
        Amendment::Size(_) => 4,
    }
}
