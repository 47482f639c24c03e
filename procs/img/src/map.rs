//! `map`, printed as it comes: a disk may have any number of ranges.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use bulkhead_protocol::tool::{Range, ToolCommand, ToolEvent};

use crate::chain;
use crate::cli::chain::Map;
use crate::cli::{Chain, Output};
use crate::disk::{Disk, files};
use crate::file::Access;
use crate::out::Out;
use crate::tool::Front;

/// `map`
pub fn run(options: &Map, front: &mut Front) -> Result<ExitCode> {
    let access = Access::reading(options.share.force_share);
    let chain = chain::of(&options.chain, options.format, &options.file, options.share, front)?;
    let disk = Disk::open(options.format, &options.file, &chain, access)?;
    let mut out = BufWriter::new(Out::Standard);
    let json = options.output == Output::Json;
    if !json {
        writeln!(out, "{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to")?;
    }
    let mut before = "[";
    front.run(ToolCommand::Map(disk.plan.clone()), &files([&disk]), |event| {
        let ToolEvent::Ranges(ranges) = event else {
            return Ok(());
        };
        for range in ranges {
            if json {
                write!(out, "{before}")?;
                write_json(&mut out, &range)?;
                before = ",\n";
            } else if range.data {
                write_for_people(&mut out, &range, &options.file, &chain)?;
            }
        }
        Ok(())
    })?;
    if json {
        let begin = if before == "[" { "[" } else { "" };
        writeln!(out, "{begin}]")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// As qemu-img writes it, one range a line.
fn write_json(out: &mut impl Write, range: &Range) -> Result<()> {
    let Range { start, length, depth, present, zero, data, offset, .. } = range;
    write!(out, r#"{{ "start": {start}, "length": {length}, "depth": {depth}"#)?;
    write!(out, r#", "present": {present}, "zero": {zero}, "data": {data}"#)?;
    if let Some(offset) = offset {
        write!(out, r#", "offset": {offset}"#)?;
    }
    Ok(write!(out, "}}")?)
}

fn write_for_people(
    out: &mut impl Write,
    range: &Range,
    file: &PathBuf,
    chain: &Chain,
) -> Result<()> {
    let names = std::iter::once(file);
    let mut names = names.chain(chain.backing.iter().map(|(_, path)| path));
    let name = names.nth(range.depth as usize).map_or(Path::new(""), |path| path).display();
    let place = range.offset.map_or("compressed".to_owned(), hexadecimal);
    let (start, length) = (hexadecimal(range.start), hexadecimal(range.length));
    Ok(writeln!(out, "{start:<16}{length:<16}{place:<16}{name}")?)
}

/// As C writes it: zero has no prefix.
fn hexadecimal(number: u64) -> String {
    if number == 0 { "0".to_owned() } else { format!("{number:#x}") }
}
